"""A job for tests: python -m tests.benchmarks.fake_job --numbers 3 --pause 0.1 --end 0 --out FILE"""

import os
import sys
import time

from benchmarks import harness


def main() -> None:
    parser = harness.parser(__doc__, numbers=3, end=0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each number")
    parser.add_argument("--pid", help="the file that gets the id of this process")
    a = parser.parse_args()
    if a.pid:
        with open(a.pid, "w") as file:
            file.write(str(os.getpid()))
    for count in range(1, a.numbers + 1):
        harness.save("numbers", [{"number": n, "half": n / 2, "always": ""} for n in range(count)], a.out)
        time.sleep(a.pause)
    print("last words")
    sys.exit(a.end)


if __name__ == "__main__":
    main()
