"""Maximum-likelihood fits of points and beta models to counts."""
