dragoman_fuzz(marian LIBS compute)
dragoman_fuzz(shortlist LIBS translate_engine)
dragoman_fuzz(student LIBS translate_engine)
