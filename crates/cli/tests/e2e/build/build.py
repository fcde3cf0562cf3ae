"""Builds a folder's Dockerfile with docker-py: build.py FOLDER TAG."""

import sys

import docker

folder, tag = sys.argv[1:]
image, log = docker.from_env().images.build(path=folder, tag=tag)
for line in log:
    print(line.get("stream", ""), end="")
