"""What of the real siblings' behaviour is switched on, besides their consumers."""

from msgspec import Struct


class Switches(Struct, kw_only=True, forbid_unknown_fields=True):
    """What can be switched on and off while the sandbox runs.

    `read_cache`: product's reads without `no-store` share one cached row.
    `stock_check`: shopcart checks a new quantity, through that cache.
    """

    read_cache: bool = True
    stock_check: bool = False

    def set(self, other: "Switches") -> None:
        """Take over all of another's values."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))
