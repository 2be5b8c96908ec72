"""IP-Adapter on SDXL: its weights, image prompts with masks, and a gate for them."""
