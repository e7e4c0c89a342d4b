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
            OSError: the file could not be read.
        """
        with self._open() as stream:
            return stream.height, stream.width

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames (H, W, 3), scaled to ``size`` (height, width) where given.

        Raises:
            BadClip: the video is not one, is damaged or cut short, or has no frames.
            OSError: the file could not be read.
        """
        height, width = size or (None, None)
        count = 0
        with self._open() as stream:
            for frame in stream.container.decode(stream):
                if frame.is_corrupt:  # FFmpeg hands on what it made up for the lost part
                    raise BadClip(str(self.file), f"the video is damaged or cut short at frame {count + 1}")
                count += 1
                # Scaling and conversion in one step from the decoder's planes; AREA averages, so nothing aliases.
                yield frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
            if stream.frames and count != stream.frames:  # 0 where the header does not say
                said = f"{count} frames can be decoded of the {stream.frames} that it announces"
                raise BadClip(str(self.file), f"{said}: the others are lost or empty")
        if not count:
            raise BadClip(str(self.file), "the video has no frames")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        # Read as all files are, so that a failure of the system is told from one of the video.
        content = io.BytesIO(read_bytes(self.file))
        try:
            with av.open(content) as container:
                if not container.streams.video:
                    raise BadClip(str(self.file), "the file has no video stream")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise BadClip(str(self.file), "the video is in a coding that FFmpeg does not know")
                stream.codec_context.thread_count = 1
                yield stream
        except av.FFmpegError as error:
            raise BadClip(str(self.file), f"the video cannot be decoded: {error.strerror}") from None
