dragoman_fuzz(http LIBS gateway_http)
dragoman_fuzz(form LIBS gateway_http)
