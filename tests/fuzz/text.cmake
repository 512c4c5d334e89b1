dragoman_fuzz(text LIBS text)
