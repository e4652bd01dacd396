"""RESP, byte for byte: frames in, boundaries and values out. No I/O and no knowledge of jobs."""
