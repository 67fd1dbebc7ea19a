"""How the embedded detector judges a skill: what happens in its worker processes, and the processes."""
