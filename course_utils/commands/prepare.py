"""Fetch what the full size needs, once: CIFAR-10, and pretrained weights by name."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import torch
from torchvision.datasets import CIFAR10

from course_utils.doctor.machine import ROOT
from course_utils.full_size.catalogue import CIFAR10_FILE, Item, catalogue
from course_utils.full_size.downloads import RemoteFile, alone, explained, fetch, in_mb

USUAL = ("cifar10", "resnet50")  # the article's experiment
UNPACKED = 186_000_000  # bytes that CIFAR-10 takes beside its archive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"what to fetch (default: {' '.join(USUAL)})")
    parser.add_argument("--list", action="store_true", help="show all that can be fetched, and fetch nothing")
    parser.add_argument("--check", action="store_true", help="say what is there; exit status 1 if some is not")
    parser.add_argument("--data", type=Path, default=ROOT / "data", metavar="DIR", help="for data sets (default: data)")
    parser.add_argument("--to", type=Path, metavar="DIR", help="all files into this folder, to be handed on")
    parser.add_argument("--from", dest="origin", metavar="WHERE", help="take them from such a folder or its address")
    parser.add_argument("--mirror", action="append", default=[], metavar="URL", help="ask this address first")


def run(args: argparse.Namespace) -> int:
    """Show what is there and what is missing, fetch that, unpack CIFAR-10. 1 where --check finds something missing.

    Raises ValueError for an unknown name or address, OSError where something could not be fetched or written.
    """
    items = catalogue()
    if args.list:
        for name, item in items.items():
            print(f"{name:20} {in_mb(item.size):>10}  {item.about}")
        return 0
    wanted = {name: items[known(name, items)] for name in args.only or USUAL}
    check_addresses(args, wanted)
    missing = [name for name, item in wanted.items() if not is_there(name, item, args)]
    for name, item in wanted.items():
        folder = folder_of(item, args)
        state, begun = ("missing" if name in missing else "there"), sum(begun_of(file, folder) for file in item.files)
        print(f"{state:8} {name:20} {in_mb(item.size):>10}  {item.about}; in {folder}")
        if name in missing and begun:
            print(f"{'':29} {in_mb(begun):>10}  of it came before, and are kept")
    if args.check or not missing:
        return 1 if missing else 0
    check_space([wanted[name] for name in missing], args)
    failed = []
    for name in missing:
        item, folder = wanted[name], folder_of(wanted[name], args)
        try:
            for file in item.files:
                fetch(file, folder, sources_of(file, item, args))
            if name == "cifar10" and not args.to:
                print(f"Unpacking {item.files[0].name}")
                with explained(folder), alone(folder):  # another call may be unpacking it just now
                    CIFAR10(str(folder), download=True)  # finds the archive there, and checks and unpacks it
        except ConnectionError as error:  # the others may come from elsewhere
            failed.append(str(error))
        except KeyboardInterrupt:
            print("\nStopped. What came is kept; the same call goes on there.", file=sys.stderr)
            return 130
    if failed:
        raise ConnectionError("\n".join(failed))
    print("All of it is there.")
    return 0


def known(name: str, items: dict[str, Item]) -> str:
    if name not in items:
        near = difflib.get_close_matches(name, items, cutoff=0.4) or USUAL
        raise ValueError(f"There is no {name!r} to fetch. Did you mean {' or '.join(near)}? All names: --list")
    return name


def check_addresses(args: argparse.Namespace, wanted: dict[str, Item]) -> None:
    """Raise ValueError for a mirror that is no address, a folder that is not there, or what must not be handed on."""
    for mirror in args.mirror:
        if not is_address(mirror):
            raise ValueError(f"--mirror takes an address that begins with http:// or https://, not {mirror!r}.")
    if args.origin and not is_address(args.origin) and not Path(args.origin).is_dir():
        raise ValueError(f"--from takes a folder or an address; there is no folder {args.origin!r}.")
    private = [name for name, item in wanted.items() if not item.share]
    if private and (args.to or args.origin):
        raise ValueError(f"The licence of {private[0]} forbids to hand it on: fetch it without --to and --from.")


def is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def folder_of(item: Item, args: argparse.Namespace, *, handed_on: bool = True) -> Path:
    """Where an item's files go: the folder to hand on, or where the course looks for them."""
    if handed_on and args.to:
        return args.to
    return args.data if item.place == "data" else Path(torch.hub.get_dir(), "checkpoints")


def is_there(name: str, item: Item, args: argparse.Namespace) -> bool:
    folder = folder_of(item, args)
    if name == "cifar10" and not args.to:
        try:
            CIFAR10(str(folder), download=False)  # checks the MD5 of all that was unpacked
        except (RuntimeError, OSError):
            return False
        return True
    return all(file.is_whole(folder / file.name) for file in item.files)


def check_space(items: list[Item], args: argparse.Namespace) -> None:
    """Say how much comes and how much room there is. Raises OSError where that is too little."""
    needs: dict[Path, int] = {}
    for item in items:
        folder = folder_of(item, args)
        needs[folder] = needs.get(folder, 0) + sum(file.size - begun_of(file, folder) for file in item.files)
        if item.files == (CIFAR10_FILE,) and not args.to:
            needs[folder] += UNPACKED
    for folder, need in needs.items():
        there = next((path for path in (folder, *folder.resolve().parents) if path.is_dir()), None)
        if there is None:
            raise OSError(f"There is no place {folder}: its drive is missing. Name another folder.")
        free = shutil.disk_usage(there).free
        print(f"{in_mb(need)} go to {folder}, where {in_mb(free)} are free.")
        if free < need:
            raise OSError(f"The disk is too full: {in_mb(need)} are needed at {folder}, {in_mb(free)} are free.")


def begun_of(file: RemoteFile, folder: Path) -> int:
    """How many bytes of a file are there: all, or what an earlier call kept."""
    whole, part = folder / file.name, file.part(folder)
    if whole.is_file() and file.fits(whole.stat().st_size):
        return whole.stat().st_size
    return part.stat().st_size if part.is_file() else 0


def sources_of(file: RemoteFile, item: Item, args: argparse.Namespace) -> list[str | Path]:
    """Where to ask for a file: the folder or address that was named, alone; else mirrors first, then its own."""
    if args.origin:
        return [under(args.origin, file)] if is_address(args.origin) else [Path(args.origin) / file.name]
    own = folder_of(item, args, handed_on=False) / file.name
    here = [own] if args.to and own.exists() else []
    return [*here, *(under(mirror, file) for mirror in args.mirror), *file.sources]


def under(address: str, file: RemoteFile) -> str:
    return f"{address.rstrip('/')}/{quote(file.name)}"
