"""The yardstick: the least that any receiver on aiohttp does. It checks, answers, keeps nothing.

`python -m tests.bench.bare PORT JWKS`: reads a token, verifies its signature with the key that it
names, parses its claims and answers 202.
"""

import asyncio
import sys
from base64 import urlsafe_b64decode

import jwt
import orjson
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256


async def serve(port: int, key_set: jwt.PyJWKSet) -> None:
    """Serves until the process ends."""
    padding, hash_ = PKCS1v15(), SHA256()
    keys = {key.key_id: key.key for key in key_set.keys}

    async def handle(request: web.BaseRequest) -> web.Response:
        signing_input, _, signature = (await request.read()).rpartition(b".")
        header, _, payload = signing_input.partition(b".")
        key = keys[orjson.loads(urlsafe_b64decode(header + b"=="))["kid"]]
        key.verify(urlsafe_b64decode(signature + b"=="), signing_input, padding, hash_)
        answer = orjson.dumps({"outcome": orjson.loads(urlsafe_b64decode(payload + b"=="))["iss"]})
        return web.Response(status=202, body=answer, content_type="application/json")

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), jwt.PyJWKSet.from_json(sys.argv[2])))
