"""A release to the Hugging Face Hub, in one commit."""

import re

from distill_bench.errors import RunFailed, UsageError
from distill_bench.hub.publish import Release
from distill_bench.runtime.paths import offline

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_MADE_BY_THE_HUB = {".gitattributes"}


def repository_page(repository: str) -> str:
    """Where a dataset repository is seen; its files are below ``/resolve/main``.

    Raises:
        UsageError: it is not an owner and a name.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"`repo={repository!r}`: give owner/name, as in your-name/dm-cifar10-ipc1.")
    return f"https://huggingface.co/datasets/{repository}"


def upload(release: Release, repository: str) -> str:
    """Create a dataset repository with the files of a release, and return the address of the commit.

    Raises:
        UsageError: huggingface_hub is not installed, nobody is logged in, the network is forbidden, or the repository
            holds files already; nothing was uploaded.
        RunFailed: the Hub refused, or cannot be reached.
    """
    if offline():
        raise UsageError("DISTILL_BENCH_OFFLINE is set, which forbids an upload. Unset it, or publish `to=folder`.")
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            "an upload needs huggingface_hub: pip install 'distill_bench[hub]'. Or publish `to=folder` and upload that."
        ) from None
    token = huggingface_hub.get_token()
    if not token:
        raise UsageError(
            "nobody is logged in to Hugging Face: run `hf auth login`, or set HF_TOKEN to a token that may write."
        )
    api = huggingface_hub.HfApi(token=token)
    try:
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        there = sorted(set(api.list_repo_files(repository, repo_type="dataset")) - _MADE_BY_THE_HUB)
        if there:
            raise UsageError(
                f"{repository} holds {', '.join(there[:5])} already, and is left as it is. A set that replaces another "
                "gets a repository of its own, and an id that ends in -v2."
            )
        operations = [huggingface_hub.CommitOperationAdd(name, content) for name, content in release.files.items()]
        commit = api.create_commit(
            repository, operations, commit_message=f"Publish {release.name}", repo_type="dataset"
        )
    except UsageError:
        raise
    except Exception as error:  # the client raises errors of many types, its HTTP library's among them
        reason = " ".join(str(error).split()).replace(token, "…")
        raise RunFailed(f"the upload to {repository} failed ({type(error).__name__}: {reason}).") from None
    return str(commit.commit_url)
