const rows = [["a", 3], ["b", 5]];
for (const [name, value] of rows) console.log(name.padEnd(8) + "#".repeat(value));
