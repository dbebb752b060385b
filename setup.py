"""Packaging of mmdetr_plugin.

OpenMMLab packages carry their configs, tools and model index in `<package>/.mim`, where mim looks
for them. The files live at the top of the repository, so building copies them into the package
and an editable install links to them.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmdetr_plugin'
MIM_CONTENTS = ('configs', 'tools', 'model-index.yml')

# mmdetr_plugin/compat.py holds the same bounds and says them readably when they do not hold.
INSTALL_REQUIRES = [
    'torch>=2.5',
    'mmengine>=0.10.0,<1.0',
    'mmcv>=2.1.0,<2.2',
    'mmdet>=3.3.0,<4.0',
    'scipy>=1.9',
    'pycocotools>=2.0.6',
]
EXTRAS_REQUIRE = {
    'demo': ['scikit-learn>=1.2', 'matplotlib>=3.6', 'pillow>=9.0', 'torchmetrics>=1.6'],
    'cpu': ['numba>=0.57'],
    # It needs torch 2.11 too, which it states itself.
    'cuda-fast': ["deformops>=3.0; python_version >= '3.12' and python_version < '3.14'"],
    'hf': ['safetensors>=0.4', 'transformers>=5.23,<5.24'],
    'eval': ['faster-coco-eval>=1.6.5'],
    'export': ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.5', 'openvino>=2025.0'],
    'docs': ['sphinx>=8.2', 'myst-parser>=5', 'furo>=2025.7'],
    'dev': [
        'pytest>=8',
        'pytest-xdist>=3.6',
        'hypothesis>=6.100',
        'nbclient>=0.10',
        'ipykernel>=6.29',
        'ruff>=0.5',
        'mypy>=1.8',
        'pre-commit>=3.5',
        'build>=1.0',
        'wheel',
    ],
}


def read_version() -> str:
    """The version, read without importing the package (its requirements may be missing)."""
    text = (ROOT / PACKAGE / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


class BuildWithMim(build_py):
    """Puts MIM_CONTENTS into `.mim`: as copies in a build, as links in an editable install."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            self._fill(ROOT / PACKAGE / '.mim', self._link)
        else:
            target = Path(self.build_lib) / PACKAGE
            # A file that was renamed must not come back from the last build.
            shutil.rmtree(target, ignore_errors=True)
            super().run()
            self._fill(target / '.mim', self._copy)

    def _fill(self, target: Path, put) -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM_CONTENTS:
            put(ROOT / name, target / name)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '*.pyc', '.*')
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy2(source, target)

    @classmethod
    def _link(cls, source: Path, target: Path) -> None:
        try:
            target.symlink_to(os.path.relpath(source, target.parent), source.is_dir())
        except OSError:  # Windows without the right to make links
            cls._copy(source, target)


setup(
    name=PACKAGE,
    version=read_version(),
    description='The DETR family as registered parts for OpenMMLab MMDetection',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8')
    if (ROOT / 'README.md').exists()
    else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='object detection, DETR, transformer, MMDetection, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=[PACKAGE, *(f'{PACKAGE}.{name}' for name in find_packages(ROOT / PACKAGE))],
    package_data={PACKAGE: ['py.typed']},
    include_package_data=False,
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
