"""What the node measures of itself: each module returns plain numbers, `hearth bench` prints them."""
