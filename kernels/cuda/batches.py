"""Batches that come from the host and go back there: hashes and permutations of many small things.

Small ones stay on the host: a launch would take longer. One that the device's memory does not hold is halved, as
often as it takes, and what is small then is done on the host: such a call never fails for want of device memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kernels import blake3, field, sha256
from kernels.cpu import CpuBackend
from kernels.cuda import digests, hashing
from kernels.cuda.device import Device
from kernels.cuda.errors import DeviceMemoryError
from kernels.field import U32
from kernels.hashing import I64
from kernels.messages import U8, blocks_of
from kernels.poseidon2 import DIGEST_LEN, TRACE_WIDTH

HOST_ROWS = 4096
"""Batches of fewer items are computed on the host."""
HOST_BYTES = 1 << 20
"""As `HOST_ROWS`, for messages to be hashed."""

Part = Callable[[int, int], U32]
"""(start, stop) -> the results of those items, U32[stop - start, ...]."""


def in_parts(count: int, on_device: Part, on_host: Part) -> U32:
    """The results of items 0 ... count - 1: on the device, halved where its memory is short, at last on the host."""

    def run(start: int, stop: int) -> list[U32]:
        if stop - start < max(1, HOST_ROWS):
            return [on_host(start, stop)]
        try:
            return [on_device(start, stop)]
        except DeviceMemoryError:
            if stop - start == 1:
                return [on_host(start, stop)]
        middle = (start + stop) // 2
        return run(start, middle) + run(middle, stop)

    parts = run(0, count)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Batches:
    """One device and the host beside it."""

    device: Device
    host: CpuBackend

    def permute(self, states: U32) -> U32:
        kernel = hashing.permute_16 if states.shape[1] == 16 else hashing.permute_24

        def on_device(start: int, stop: int) -> U32:
            part = states[start:stop]
            out = self.device.empty(part.size)
            self.device.launch(kernel, len(part), self.device.upload(part), out)
            return self.device.download(out).reshape(part.shape)

        return in_parts(len(states), on_device, lambda a, b: self.host.permute(states[a:b]))

    def hash_tagged(self, elements: U32, offsets: I64, tags: U32) -> U32:
        lengths = np.diff(offsets)
        assert (offsets[0], offsets[-1]) == (0, elements.size), "the offsets do not span the elements"
        assert (lengths >= 0).all(), "the offsets do not rise"

        def part(start: int, stop: int) -> tuple[U32, I64, U32]:
            first, last = offsets[start], offsets[stop]
            return elements[first:last], offsets[start : stop + 1] - first, tags[start:stop]

        def on_device(start: int, stop: int) -> U32:
            words, places, kinds = part(start, stop)
            capacities = field.to_monty(np.stack((kinds.astype(np.int64), np.diff(places)), axis=1))
            out = self.device.empty(len(kinds) * DIGEST_LEN)
            self.device.launch(
                hashing.sponge_tagged,
                len(kinds),
                # An empty buffer has no address: one word more, which no input reaches.
                self.device.upload(np.append(words, np.uint32(0))),
                self.device.upload(places.astype(np.int64)),
                self.device.upload(capacities),
                out,
            )
            return self.device.download(out).reshape(-1, DIGEST_LEN)

        return in_parts(len(tags), on_device, lambda a, b: self.host.hash_tagged(*part(a, b)))

    def hash_rows(self, rows: U32) -> U32:
        def on_device(start: int, stop: int) -> U32:
            count, width = stop - start, rows.shape[1]
            out = self.device.empty(count * DIGEST_LEN)
            words = self.device.upload(rows[start:stop])
            self.device.launch(hashing.sponge_24, count, words, width, 1, width, out)
            return self.device.download(out).reshape(-1, DIGEST_LEN)

        return in_parts(len(rows), on_device, lambda a, b: self.host.hash_rows(rows[a:b]))

    def compress_pairs(self, left: U32, right: U32) -> U32:
        assert left.shape == right.shape == (len(left), DIGEST_LEN), (left.shape, right.shape)

        def on_device(start: int, stop: int) -> U32:
            sides = self.device.upload(left[start:stop]), self.device.upload(right[start:stop])
            out = self.device.empty((stop - start) * DIGEST_LEN)
            self.device.launch(hashing.compress, stop - start, *sides, out, DIGEST_LEN)
            return self.device.download(out).reshape(-1, DIGEST_LEN)

        return in_parts(len(left), on_device, lambda a, b: self.host.compress_pairs(left[a:b], right[a:b]))

    def permutation_trace(self, inputs: U32, *, out: U32) -> U32:
        """Rows U32[n, 164] into the first columns of a host array."""

        def on_device(start: int, stop: int) -> U32:
            count = stop - start
            rows = self.device.empty(count * TRACE_WIDTH)
            words = self.device.upload(inputs[start:stop])
            self.device.launch(hashing.permutation_trace, count, words, rows, TRACE_WIDTH, 1, 1)
            out[start:stop, :TRACE_WIDTH] = self.device.download(rows).reshape(count, TRACE_WIDTH)
            return out[start:stop]

        in_parts(len(inputs), on_device, lambda a, b: self.host.permutation_trace(inputs[a:b], out=out[a:b]))
        return out

    def sha256(self, data: U8, offsets: I64) -> U8:
        if data.size < HOST_BYTES:
            return self.host.sha256(data, offsets)
        blocks = sha256.padded(self.host.pool, data, offsets)

        def on_device(start: int, stop: int) -> U32:
            first = blocks.first[start : stop + 1]
            words = self.device.upload(blocks.words[first[0] : first[-1]])
            out = self.device.empty((stop - start) * sha256.DIGEST_BYTES // 4)
            places = self.device.upload(first - first[0])
            self.device.launch(digests.sha256_messages, stop - start, words, places, out)
            return self.device.download(out).reshape(stop - start, -1)

        def on_host(start: int, stop: int) -> U32:
            return sha256.states_of(self.host.pool, blocks, start, stop)

        return sha256.digest_bytes(in_parts(len(blocks.lengths), on_device, on_host))

    def blake3(self, data: U8, offsets: I64) -> U8:
        if data.size < HOST_BYTES:
            return self.host.blake3(data, offsets)
        blocks = blocks_of(self.host.pool, data, offsets)
        chunks = blake3.chunks_of(blocks)

        def on_device(start: int, stop: int) -> U32:
            table = chunks.table[start:stop].copy()
            first, last = table[0, 0], table[-1, 0] + table[-1, 1]
            table[:, 0] -= first
            words = self.device.upload(blocks.words[first:last])
            values = self.device.empty((stop - start) * blake3.DIGEST_BYTES // 4)
            self.device.launch(digests.blake3_chunks, stop - start, words, self.device.upload(table), values)
            return self.device.download(values).reshape(stop - start, -1)

        def on_host(start: int, stop: int) -> U32:
            return blake3.chunk_values(self.host.pool, blocks, chunks.table[start:stop])

        # Of the chunks' 1 KiB each 32 bytes come back: their tree is a thirtieth of the work.
        values = in_parts(len(chunks.table), on_device, on_host)
        return blake3.root_digests(values, chunks.counts, self._blake3_parents)

    def _blake3_parents(self, children: U32, flags: U32) -> U32:
        def on_device(start: int, stop: int) -> U32:
            sides = self.device.upload(children[start:stop]), self.device.upload(flags[start:stop])
            out = self.device.empty((stop - start) * blake3.DIGEST_BYTES // 4)
            self.device.launch(digests.blake3_parents, stop - start, *sides, out)
            return self.device.download(out).reshape(stop - start, -1)

        def on_host(start: int, stop: int) -> U32:
            return blake3.parents(self.host.pool, children[start:stop], flags[start:stop])

        return in_parts(len(children), on_device, on_host)
