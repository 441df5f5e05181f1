# No types: compiled as it is, see process.pxd.
