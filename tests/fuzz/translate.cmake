dragoman_fuzz(marian LIBS compute)
dragoman_fuzz(shortlist LIBS translate_engine)
