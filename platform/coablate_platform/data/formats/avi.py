"""Reads video files with FFmpeg."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import BadClip, FileRef
from coablate_platform.data.formats.files import read_bytes


@dataclass(frozen=True, kw_only=True)
class AviVideo:
    """The colour video of a clip, decoded on one thread: many processes decode at the same time."""

    file: FileRef

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video frame in pixels.

        Raises:
            BadClip: the file is not a video.
            OSError: the system could not read the file.
        """
        with self._open() as (_, stream):
            return stream.height, stream.width

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames (H, W, 3), scaled to ``size`` (height, width) where given.

        Raises:
            BadClip: the file is not a video, is damaged or truncated, or has no frames.
            OSError: the system could not read the file.
        """
        height, width = size or (None, None)
        count = 0
        with self._open() as (container, stream):
            for frame in container.decode(stream):
                if frame.is_corrupt:  # FFmpeg fills in lost parts and returns the frame
                    raise BadClip(str(self.file), f"the video is damaged or cut short at frame {count + 1}")
                count += 1
                # One step scales and converts the decoder's planes. AREA averages pixels, which avoids aliasing.
                pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
                yield np.asarray(pixels, dtype=np.uint8)
            if stream.frames and count != stream.frames:  # 0 where the header does not say
                reason = f"only {count} of the {stream.frames} frames that its header announces can be decoded"
                raise BadClip(str(self.file), reason)
        if not count:
            raise BadClip(str(self.file), "the video has no frames")

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        # ``read_bytes`` tells a failure of the system (OSError) from a damaged video.
        content = io.BytesIO(read_bytes(self.file))
        try:
            with av.open(content, "r") as container:
                if not container.streams.video:
                    raise BadClip(str(self.file), "the file has no video stream")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise BadClip(str(self.file), "FFmpeg does not know the codec of the video")
                stream.codec_context.thread_count = 1
                yield container, stream
        except av.FFmpegError as error:
            raise BadClip(str(self.file), f"the video cannot be decoded: {error.strerror}") from None
