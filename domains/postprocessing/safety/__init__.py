"""Safety policies, and checks of pictures and prompts by them."""
