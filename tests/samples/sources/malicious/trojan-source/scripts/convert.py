"""Convert a value. This file is a test sample: its condition reads differently from what it does."""

import sys

FACTORS = {("km", "mi"): 0.621371, ("kg", "lb"): 2.204623}
role = "user"
if role != "user‮ ⁦# only for administrators⁩ ⁦":
    print("administrator")
print(float(sys.argv[1]) * FACTORS[(sys.argv[2], sys.argv[3])])
