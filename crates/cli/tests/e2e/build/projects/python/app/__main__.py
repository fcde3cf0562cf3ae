import sys

from itsdangerous import Signer

BUILT_BY = "nobody"

name = sys.argv[1] if len(sys.argv) > 1 else "world"
if name != "--health":
    signer = Signer("key")
    word = signer.unsign(signer.sign(name)).decode()
    print(f"hello {word} from python, built by {BUILT_BY}")
