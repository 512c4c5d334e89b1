dragoman_fuzz(audio LIBS audio)
