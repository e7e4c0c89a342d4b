"""Small trainings in memory, on one worker or two."""

import dataclasses
import multiprocessing as mp
import os

import torch
import torch.distributed as dist
from clips import MemoryClips

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.loop import train
from coablate_platform.train.task import Task

CPU = torch.device("cpu")
SMALL = CCDFARM(width=0.125, hcn_features=8, mffm_channels=16)
SKELETON = dataclasses.replace(SMALL, streams=("skeleton",), tiam="none")


def task_of(model=SKELETON, **training) -> Task:
    settings = {"epochs": 4, "batch_size": 6, "schedule": "constant", "learning_rate": 1e-3}
    config = RunConfig(model=model, data=DataConfig(), training=TrainingConfig(**(settings | training)))
    return Task(run_id="r" * 64, config=config, seed=(0, 1))


def run(task: Task, folder, clips=None, stop_after: int | None = None, record=None) -> list:
    """Drive a run as a lane does, and return its events; close it after ``stop_after`` events."""
    events = []
    recorded = record if record is not None else []
    source = train(task, clips or MemoryClips(), Checkpoints(str(folder)), recorded.append, CPU)
    for event in source:
        events.append(event)
        if len(events) == stop_after:
            source.close()
    return events


def numbers(events: list) -> list:
    return [(e.epoch, e.metrics) for e in events]


def _worker(rank: int, work, port: int, folder: str, queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    result = work(folder)
    if rank == 0:
        queue.put(result)
    dist.barrier()
    dist.destroy_process_group()
    queue.close()
    queue.join_thread()
    os._exit(0)  # gloo's threads sometimes abort an interpreter that is shutting down


def on_two_workers(work, port: int, folder):
    """Return what ``work(folder)`` returns on rank 0 of two gloo workers."""
    context = mp.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=_worker, args=(rank, work, port, str(folder), queue), daemon=True) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    result = queue.get(timeout=90)
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    return result
