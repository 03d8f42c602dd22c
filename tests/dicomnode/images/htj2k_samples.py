"""High-throughput JPEG 2000 codestreams of one small image, for no encoder is among the test requirements.

Written once with OpenJPH 0.26.3 through imagecodecs 2026.3.6: `htj2k_encode(pixels(), reversible=True)`, the second
with `tlm=True, resolutions=3` (its progression is RPCL by default), the third with `reversible=False, level=0.0001`.
"""

from base64 import b64decode

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import HTJ2K, UID, HTJ2KLossless, HTJ2KLosslessRPCL


def pixels() -> NDArray[np.uint16]:
    """What was encoded: uint16 (32, 36), a slope with fine structure."""
    y, x = np.mgrid[:32, :36]
    return (1250 * y + 200 * x + (37 * x * y + 11 * x * x) % 256).astype(np.uint16)


CODESTREAMS: dict[UID, bytes] = {
    HTJ2KLossless: b64decode(
        "/0//UQApQAAAAAAkAAAAIAAAAAAAAAAAAAAAJAAAACAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQ"
        "kJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAABbwAAf+TwAAqAAGmrfkFAXQAwAASwAAVEAAEgPkAx3QA"
        "uLKEsgFCNAAAR3QAwAAVEAAFowAATirSJfoAQpQAEIBOdgFwyloAtuwA5wN+tgDpk4YAI5QAwAAWrAABdJAABa5WV0J8scHGQKU+JLgT"
        "6ADcpBERlwAa3RcAFwCchwqQZCqAlSkAEZYFGBkTIGADDMYwAY4gv5KrPACxKlh2ZZVoymIFEGyWZvs6ApaCECGXAMAAF61AABeywAAX"
        "rYA6/iMTz2myLz8dkjbwIYLCcmIhd8uEw1gXX2wEgHEBguY09lfGnypIAIALqaPAkCJKdbtMdSxiADctUk9KDi027AAA2wSYG9B/4Rzo"
        "ZOAqe1KF4QAJoCDalgEDPhiqToYZI44bMXVfJDo1uN+zLs4ncTJolKkT2lEsnTUuN/dt9tI6jDSsaaVVEAOhTYBkuYGM9QNqJQJx8QCc"
        "oYFpcQGH0QCU/QEZhCACCEIAMezUk9wp+cIaocXwQXYAAAc7AWYcPKRQsqIyr4uK3NE6ajCmYjgx4zCQLGaUFQmlIItn7xVFxTtvCF5E"
        "8FWflRO5S/PUN/Sg7Zu3p5kySzYWbo3wqtem2dQdoZRnROFQS6D2LEY3gCBmghAhlQHAAC/VSAAF+rEAAL9IQBUEqlqFUFVTa0VV9Wj1"
        "aBSqilZdiYBeW1VXraBRqCrxhYCAjIKIVlujCqEatRKhpgYJUa+iKuorERARECsQK5CqUFUghbOKRCHRamoQkFGQa2v1ak0FVUEhajU0"
        "EhJ6DRICEgKqKjHAICDUISAq9foKElFBqECqRqMq6AqEGoRavY5AoOq1aiR6RASEKjQkCoFAoGvIeq2GQNar6BoSiUAgkbU6BDQkBAg5"
        "wEOuqkeroauIGgqBQiLq9UqlikZWK8gahJo61Do0tFpICGNARkCqqyIr1ZqaKqQqGolCISsoJBpVQ61CrEKqR0Opg4YVQASUCrQqtKoK"
        "ZIQaRCRUBAi1KqKCVomAUq+gESgUslYFGWUdApaPIQR4RaAF1ncEpRUOUJYhZ3Lmo685QZaPIQpKgZUXKK6oaREIl4REM6oUUqEIkepI"
        "EAEAECAAECEjAgAikQS+9/9e/14fv9/r9Xj8vL08Ph6/9+fH2+P78Xp4fnz9fPjyeD1/D++PD/9nx+vx4fv15ePx/emjx/fj+f75eHz8"
        "eH14fXx8f/h9/Hh7/vh4/3z4+vD9+PPy8/rw6MHb/2OHj7fXx4+Hn+fz8ff48Pl6vd7f5/Px8fP8+n2//s/H6/t7vLw+ffz4eX19+314"
        "/3z4Pc/zez8fHl8fPp/n9+fnoxdPr5+PTw8vn7/v5/PTw+/nx8vr8X7+frx+vn+8fHwf3p+fD9+P7/fv/3x4+Xh5/n15+Hh8fn6f5+vj"
        "ed8nJB+wRnX9gE9+QEo/McUHdOUBx3xBVH+wyR8U8wcv/UEuXzCOBzTzARf8RCAfQM0BAIAAAggCACCAAAIPJbrytMNeBaGFJEEQriVo"
        "mPb2lJ2zh2hRXZkAvgqPhi9iZCDkcqFpMVPAhJS4EYAAQJoACBpAAABqyNRaBH5+/fz+/379v9//Z+/3+/978/v79/99/379/f3/f/v7"
        "8/97549fP/8/fvz8/P9++f37+/n5/f39/3nn9+fn98//b/9fv78/f/9//vz8/v78/PPr5+fHz9//f5+f39//f78/fv5/f/96+/P/Y8+P"
        "Xz/+fn9/f/989fP3/2fv79/P/18/v79/P/8//vz/e+fn/2fPz+/f/2/f39/fv/9v/2//P7/+/P7+/37/cefn5+/314+/35/f35/f/z//"
        "f/74/f3/f/98/33/d+fvz78/f3+//z9/SAAbOj0n37ut/Xn9eFc2+vqazJ6j/JS5lN43Xa4s2SNTDldjBaRd+ZD4GCu3SpqfYoYWry6c"
        "EdhpOTUyMfwBADvBAAdBBEWpCEAkXAT/2Q=="
    ),
    HTJ2KLosslessRPCL: b64decode(
        "/0//UQApQAAAAAAkAAAAIAAAAAAAAAAAAAAAJAAAACAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAMEBEAB/1wADSCIkJCQ"
        "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv9VAAoAYAAAAAAFnv+QAAoAAAAABZ4AAf+TwAAuvIH/DrF38m2k9vL2JTP7ufhh"
        "bvkHxr+JF6vFIDiJ+ojpuW+GYFipBw0oL0IAMbkAwAAWrAABdJAABa5WV0J8scHGQKU+JLgT6ADcpBERlwAa3RcAFwCchwqQZCqAlSkA"
        "EZYFGBkTIGADDMYwAY4gv5KrPACxKlh2ZZVoymIFEGyWZvs6ApaCECGXAMAAF61AABeywAAXrYA6/iMTz2myLz8dkjbwIYLCcmIhd8uE"
        "w1gXX2wEgHEBguY09lfGnypIAIALqaPAkCJKdbtMdSxiADctUk9KDi027AAA2wSYG9B/4RzoZOAqe1KF4QAJoCDalgEDPhiqToYZI44b"
        "MXVfJDo1uN+zLs4ncTJolKkT2lEsnTUuN/dt9tI6jDSsaaVVEAOhTYBkuYGM9QNqJQJx8QCcoYFpcQGH0QCU/QEZhCACCEIAMezUk9wp"
        "+cIaocXwQXYAAAc7AWYcPKRQsqIyr4uK3NE6ajCmYjgx4zCQLGaUFQmlIItn7xVFxTtvCF5E8FWflRO5S/PUN/Sg7Zu3p5kySzYWbo3w"
        "qtem2dQdoZRnROFQS6D2LEY3gCBmghAhlQHAAC/VSAAF+rEAAL9IQBUEqlqFUFVTa0VV9Wj1aBSqilZdiYBeW1VXraBRqCrxhYCAjIKI"
        "VlujCqEatRKhpgYJUa+iKuorERARECsQK5CqUFUghbOKRCHRamoQkFGQa2v1ak0FVUEhajU0EhJ6DRICEgKqKjHAICDUISAq9foKElFB"
        "qECqRqMq6AqEGoRavY5AoOq1aiR6RASEKjQkCoFAoGvIeq2GQNar6BoSiUAgkbU6BDQkBAg5wEOuqkeroauIGgqBQiLq9UqlikZWK8ga"
        "hJo61Do0tFpICGNARkCqqyIr1ZqaKqQqGolCISsoJBpVQ61CrEKqR0Opg4YVQASUCrQqtKoKZIQaRCRUBAi1KqKCVomAUq+gESgUslYF"
        "GWUdApaPIQR4RaAF1ncEpRUOUJYhZ3Lmo685QZaPIQpKgZUXKK6oaREIl4REM6oUUqEIkepIEAEAECAAECEjAgAikQS+9/9e/14fv9/r"
        "9Xj8vL08Ph6/9+fH2+P78Xp4fnz9fPjyeD1/D++PD/9nx+vx4fv15ePx/emjx/fj+f75eHz8eH14fXx8f/h9/Hh7/vh4/3z4+vD9+PPy"
        "8/rw6MHb/2OHj7fXx4+Hn+fz8ff48Pl6vd7f5/Px8fP8+n2//s/H6/t7vLw+ffz4eX19+314/3z4Pc/zez8fHl8fPp/n9+fnoxdPr5+P"
        "Tw8vn7/v5/PTw+/nx8vr8X7+frx+vn+8fHwf3p+fD9+P7/fv/3x4+Xh5/n15+Hh8fn6f5+vjed8nJB+wRnX9gE9+QEo/McUHdOUBx3xB"
        "VH+wyR8U8wcv/UEuXzCOBzTzARf8RCAfQM0BAIAAAggCACCAAAIPJbrytMNeBaGFJEEQriVomPb2lJ2zh2hRXZkAvgqPhi9iZCDkcqFp"
        "MVPAhJS4EYAAQJoACBpAAABqyNRaBH5+/fz+/379v9//Z+/3+/978/v79/99/379/f3/f/v78/97549fP/8/fvz8/P9++f37+/n5/f39"
        "/3nn9+fn98//b/9fv78/f/9//vz8/v78/PPr5+fHz9//f5+f39//f78/fv5/f/96+/P/Y8+PXz/+fn9/f/989fP3/2fv79/P/18/v79/"
        "P/8//vz/e+fn/2fPz+/f/2/f39/fv/9v/2//P7/+/P7+/37/cefn5+/314+/35/f35/f/z//f/74/f3/f/98/33/d+fvz78/f3+//z9/"
        "SAAbOj0n37ut/Xn9eFc2+vqazJ6j/JS5lN43Xa4s2SNTDldjBaRd+ZD4GCu3SpqfYoYWry6cEdhpOTUyMfwBADvBAAdBBEWpCEAkXAT/"
        "2Q=="
    ),
    HTJ2K: b64decode(
        "/0//UQApQAAAAAAkAAAAIAAAAAAAAAAAAAAAJAAAACAAAAAAAAAAAAABDwEB/1AACAACAAAAJ/9SAAwAAgABAAUEBEAA/1wAIyKcXZw3"
        "nDecEpRJlEmUMYyIjIiMnIUhhSGFjXz2fPZ8mf9kABcAAU9wZW5KUEggVmVyIDAuMjYuMy7/kAAKAAAAAAR6AAH/k8AACpDF+X5g+QGC"
        "NADAAAlgAAVMAACQqQEHdAD+YtXF/gFiNAD+F3MAwAAVMAAFowAAShY43LfaAQG0AH8DlFg58BFTBznxAOcDfrYAgQBEdADAAC2IAAXU"
        "QAAtAM5EEYai4WCGiERRBCx2Dv4AZwcIAFmYAOLd0Kbi3ZBvOPiVxJDI5RDN1RC9lRHErZC5/QBDMIQAY5AvEIDQvQDdYhEynGNx6MSb"
        "ApaJIZYAwABejwABetwABd8ARuYMDGZkUnOJ7hAAnMEWRCbCgLAm5fOxswXtIkACFVaCMWo1qlvwIocHd5IkRnDovfi4D/A5B/9g3g//"
        "MEl4OML6RI0hlAEiSDwi8DIkIBI0CCoGJhQcGgTL90UXjCCKAq4FLyriNdUaKRuJYBo2pmU0K0iveQyribCQJLtHsnTwSseyeCz7BGYQ"
        "gAghCADH5qSe4U7ohVoYXhCBrQQgQLsBBBBGvXTiKV4M8nKW39IFW+UA5hecESAb6C+ZYC3qIP9cwoOOUCXMB7kAhdclFIAXCkGLsre3"
        "azeptokhlQHAAL7ogAF9+QAC+4yKbMU9qX4cGJf+Q4D5cpMxo8tYBhyszxRTVlGaeg239IAmCA00jMWjDSugsyjB9b5Xk8CuY4AAxRES"
        "mGwCcFqJd84rgiG60NgCA02DZFlFg61dyBgiOio5BRUTORYZ8bsGkoVCWGcME9SDgGSkFyQGGjABpS0vJaQFhsFNoFlxqE6VMSJLT+iU"
        "Ty3zqdkgjdLgomqDi+asBdR5ouBX0CtCiFJWkO38ISWR5EJ4RaYAiggUyCh5vPSiFJ5V+eOvOYGULUHDB2A26K6iX5OVGLmIwibWdUaR"
        "xwhJPBwhFLtyWMmASNFLrzIEmsA2GqAu/ACB5EMkInumyxA6BAM6+CikQaJdJLmRPeKTWkWRQFMUILRmjlnFi4K0IZdaYBR4PD1GtNQG"
        "BxUhFJCAxIuABc7KAHBGADUj2k1/oaJvtQXDQLop2zR1tk26nRs4QhVAVkPRvKyQQq0Bxabh3MxcOghQMl5S5yelhhN/q+i1/VQBVMHW"
        "BIw0pGbGO+KqQRnCm7JpIptTiXIrEqqSy9LJ8ulSu0JqUgriSTKoc1ki+gEOwAABBAAAEEAAAQeQGPn2GvMLa4aj6IuiVrkzv7Ukphx2"
        "naLyaAthVH6LUW4EF0L4LOUIchHtR60QDkeD8mtQQajk0LcEwXiDfgOBVmlJoctNTLvQNG0IUta8ISV/jhcEogsBSAG6GrqYAPaSKCGe"
        "A0wTYqJt3HPOUeZJBIFj2kJAhU2cCEhZmrNka8ZTQMBTOAl1bCMKJIiCA1wpXAAFUuqBKUT3VjIuVZzgM4h7FahHNAEBNPFIZ5Tsow6o"
        "VR0bUKnL9AMEArYcMZTj2XJtuTu9UwwwTOuh+ZNHRsHBAWA41DETwi3mhCD+AIIpEIDH14VeFYw6l+tUehfVLkSxvsD8N8GVDHKephtw"
        "h8HFIiAk+xQC9YicEENeyamQDFNPJHQpZEkDngP/2Q=="
    ),
}
