dragoman_fuzz(frame LIBS mesh)
dragoman_fuzz(certificate LIBS mesh)
dragoman_fuzz(bundle LIBS mesh)
dragoman_fuzz(lent LIBS mesh)
if(TARGET mesh_rig) # of tests/mesh, which DRAGOMAN_TEST_ROOMS may leave out
    dragoman_fuzz(server LIBS mesh_rig)
    dragoman_fuzz(channel LIBS mesh_rig)
endif()
dragoman_fuzz(json LIBS mesh_json)
