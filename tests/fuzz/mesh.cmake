dragoman_fuzz(frame LIBS mesh)
dragoman_fuzz(server LIBS mesh_rig)
