"""Trains an M3-Adapter by a recipe: `python -m m3adapter train RECIPE.toml`."""

from __future__ import annotations

from pathlib import Path

from . import options
from .memory import check_memory
from .recipe import RECIPES, as_toml, read_recipe


def main(argv: list[str]) -> None:
    """Run `python -m m3adapter train RECIPE.toml`; see `--help`.

    Raises:
        UserError: The recipe, its models or its data cannot be used.
    """
    parser = options.parser("RECIPE", __doc__)
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    parser.add_argument("recipe", type=Path, help=f"a TOML file, or one that comes with the library: {names}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.FIELD=VALUE",
        help="a field to set instead; may be repeated",
    )
    parser.add_argument("--print-config", action="store_true", help="print the whole recipe with comments, and stop")
    args = parser.parse_args(argv)
    recipe = read_recipe(args.recipe, args.set)
    if args.print_config:
        print(as_toml(recipe))
        return
    from .m3ft_run import check_recipe, run_recipe

    check_recipe(recipe)
    check_memory(recipe)
    print(run_recipe(recipe))
