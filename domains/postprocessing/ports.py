"""What postprocessing needs from outside its pure core: nothing in this version."""
