"""SDXL as the painter: conditions, denoising, latents, and opening models of any layout."""
