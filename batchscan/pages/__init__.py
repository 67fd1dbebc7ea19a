"""How pages look and how they are made safe: what the HTML report and the service's live pages share."""
