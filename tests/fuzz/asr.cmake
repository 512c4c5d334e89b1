dragoman_fuzz(ct2 LIBS compute)
dragoman_fuzz(bpe LIBS asr_engine)
dragoman_fuzz(whisper LIBS asr_engine)
