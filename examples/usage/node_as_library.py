"""A node inside a program: no server, no files; requests pass contract, chain and trace all the same.

python examples/usage/node_as_library.py
"""

from packetflow import Context, Module, Node, Reject, Request, capability


@capability("price.quote")
def quote(weight: float, express: bool = False) -> dict[str, float]:
    """Price a parcel."""
    return {"price": round(3 + weight * (2 if express else 1), 2)}


class HeavyParcels(Module):
    """Refuses what no van takes."""

    def handle_request(self, request: Request, context: Context) -> Reject | None:
        """Refuse what weighs too much."""
        return Reject("too_heavy", "at most 30 kg") if request.payload["weight"] > 30 else None


def main() -> None:
    with Node(capabilities=[quote], modules=[HeavyParcels]) as node:
        print(node.call("price.quote", {"weight": 2.5, "express": True}))
        refused = node.request("price.quote", {"weight": 99})
        print(refused.error.code, "-", refused.error)
        wrong = node.request("price.quote", {"weight": "much"})
        print(wrong.error.code, "-", wrong.error)
        for span in node.traces.as_data(refused.trace)["spans"]:
            print(f"{span['self'] * 1e6:7.1f} us  {span['where']}")


if __name__ == "__main__":
    main()
