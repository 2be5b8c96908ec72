"""How the starter's parts were trained; each module is a program of its own (`python -m m3adapter.training.<name>
--help`)."""
