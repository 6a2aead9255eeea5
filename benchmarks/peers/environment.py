"""Make the virtual environment in which other tools' attacks run; it lies outside privoxel's.

  ART             adversarial-robustness-toolbox 1.20.1 from the package index
  SACRO-ML        sacroml 2.0.1 from the package index
  PrivacyGuard    privacyguard-platform 0.0.2 from the package index, without what its attacks do not import
  Privacy Meter   its RMIA is not in the index (1.0.1 there is the interface of 2023, without RMIA): one
                  file of its repository, downloaded at a fixed commit, or given as a file
Run: python benchmarks/peers/environment.py FOLDER [--privacy-meter rmia.py]
"""

import argparse
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

PACKAGES = ("torch", "adversarial-robustness-toolbox==1.20.1", "sacroml==2.0.1")
ALONE = ("privacyguard-platform==0.0.2",)
COMMIT = "0b8cb7aa0fa136566f244b8e701d435d484c58f8"
RMIA = (
    f"https://raw.githubusercontent.com/privacytrustlab/ml_privacy_meter/{COMMIT}/modules/mia/attacks/rmia.py"
)


def downloaded() -> bytes:
    """Return Privacy Meter's file from its repository; end with what to do if it cannot be reached."""
    try:
        with urllib.request.urlopen(RMIA, timeout=60) as answer:
            return answer.read()
    except urllib.error.URLError as error:
        sys.exit(f"{RMIA} cannot be read ({error.reason}). Give a copy of it with --privacy-meter FILE.")


def main() -> None:
    """Make the environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--privacy-meter", type=Path, help="modules/mia/attacks/rmia.py of its repository")
    options = parser.parse_args()
    code = options.privacy_meter.read_bytes() if options.privacy_meter else downloaded()
    python = options.folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(options.folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *PACKAGES], check=True)
    subprocess.run([*install, "--no-deps", *ALONE], check=True)
    (options.folder / "privacy_meter_rmia.py").write_bytes(code)
    print(f"{python} is ready")


if __name__ == "__main__":
    main()
