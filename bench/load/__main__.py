"""``python -m bench.load`` reads an order from standard input and prints what it measured."""

import json
import sys

from bench.cases import case_named
from bench.limits import raise_file_limit
from bench.target import Failure, Order


def main() -> None:
    order = Order.from_json(sys.stdin.read())
    raise_file_limit()
    try:
        metrics = case_named(order.case).measure(order.target, order.variant, order.effort)
    except (Failure, OSError) as error:
        print(json.dumps({"failure": str(error)}))
    else:
        print(json.dumps({"metrics": metrics}))


main()
