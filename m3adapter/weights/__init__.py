"""Files of weights and configurations, examined before anything is built from them."""
