"""The FastAPI peer, run by uvicorn in an environment of its own."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Echoed(BaseModel):
    text: str
    n: int


@app.post("/capabilities/bench.echo")
async def echo(given: Echoed) -> Echoed:
    return given
