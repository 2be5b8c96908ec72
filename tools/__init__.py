"""What run.py and the tests share: an environment of their own and a real ComfyUI in it. Standard library only."""
