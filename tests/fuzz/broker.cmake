dragoman_fuzz(broker_core LIBS broker_core)
