"""The picture book: the starter's second world, drawn from vector graphics on the latents' grid."""
