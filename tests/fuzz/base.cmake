dragoman_fuzz(admin LIBS base)
