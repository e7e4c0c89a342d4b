"""Videos in files that FFmpeg understands."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import BadClip, FileRef
from coablate_platform.data.formats.files import read_bytes


@dataclass(frozen=True, kw_only=True)
class AviVideo:
    """The colour video of a clip, decoded by one thread: clips are decoded by many processes."""

    file: FileRef

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video frame in pixels.

        Raises:
            BadClip: not a video.
        """
        with self._open() as stream:
            return stream.height, stream.width

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames (H, W, 3), scaled to ``size`` (height, width) where given.

        Raises:
            BadClip: the video is not one, is damaged, or has no frames.
        """
        height, width = size or (None, None)
        count = 0
        with self._open() as stream:
            for frame in stream.container.decode(stream):
                count += 1
                # Scaling and conversion in one step from the decoder's planes; AREA averages, so nothing aliases.
                yield frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
        if not count:
            raise BadClip(str(self.file), "the video has no frames")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        source = self.file.uri if self.file.member is None else io.BytesIO(read_bytes(self.file))
        try:
            with av.open(source) as container:
                if not container.streams.video:
                    raise BadClip(str(self.file), "the file has no video stream")
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                yield stream
        except av.FFmpegError as error:
            raise BadClip(str(self.file), f"the video cannot be decoded: {error.strerror}") from None
