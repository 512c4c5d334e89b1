dragoman_fuzz(index_page LIBS models)
dragoman_fuzz(catalogue LIBS models)
