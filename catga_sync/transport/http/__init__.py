"""The channel over HTTP: sessions of ``requests``, pools of urllib3, connections of ours."""
