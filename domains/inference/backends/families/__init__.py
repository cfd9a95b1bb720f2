"""How each family of models is run: a module for each, named like its architecture."""
