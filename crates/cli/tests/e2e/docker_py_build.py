"""docker-py's builds: an image and its log, errors, archives, and the options."""

import io
import os
import sys
import tarfile

import docker
from docker.errors import APIError, BuildError

client = docker.from_env()
folder = sys.argv[1]


def write(name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def run(image):
    return client.containers.run(image, remove=True).decode().strip()


write("Dockerfile", """FROM busybox AS first
ARG WHO=nobody
RUN echo "hello $WHO" | tee /who
CMD cat /who
FROM first AS second
RUN date +%N >/now
COPY file /file
CMD cat /file
""")
write("file", "one")

image, log = client.images.build(path=folder, tag="py:1", buildargs={"WHO": "python"}, target="first",
                                 labels={"made": "by-python"}, rm=True)
lines = list(log)
told = "".join(line.get("stream", "") for line in lines)
assert image.tags == ["py:1"], image.tags
assert image.labels == {"made": "by-python"}, image.labels
for part in ["Step 1/", "hello python", "Successfully built ", "Successfully tagged py:1"]:
    assert part in told, (part, told)
aux = [line["aux"]["ID"] for line in lines if "aux" in line]
assert aux == [image.id], aux
assert run("py:1") == "hello python"

# the same again, and without the cache
one, _ = client.images.build(path=folder, tag="py:2")
same, log = client.images.build(path=folder, tag="py:2")
assert one.id == same.id
assert "Using cache" in "".join(line.get("stream", "") for line in log)
other, _ = client.images.build(path=folder, tag="py:2", nocache=True)
assert other.id != one.id
assert run("py:2") == "one"

# what fails is an error with the log so far
write("Dockerfile.fails", "FROM busybox\nRUN echo before; exit 7\n")
try:
    client.images.build(path=folder, dockerfile="Dockerfile.fails")
    raise AssertionError("it did not fail")
except BuildError as error:
    assert "exit code: 7" in error.msg or "returned a non-zero code: 7" in error.msg, error.msg
    assert any("before" in line.get("stream", "") for line in error.build_log)
write("Dockerfile.wrong", "FROM busybox\nRUNN x\n")
try:
    client.images.build(path=folder, dockerfile="Dockerfile.wrong")
    raise AssertionError("it did not fail")
except (APIError, BuildError) as error:
    assert "RUNN" in str(error), error

# an archive, and a Dockerfile alone
archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w:gz") as tar:
    for name, text in [("Other", "FROM busybox\nCOPY a /\nCMD cat /a\n"), ("a", "packed")]:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
archive.seek(0)
client.images.build(fileobj=archive, custom_context=True, encoding="gzip", dockerfile="Other", tag="py:3")
assert run("py:3") == "packed"
client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo alone >/a\nCMD cat /a\n"), tag="py:4")
assert run("py:4") == "alone"

print("all well")
