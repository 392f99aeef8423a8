"""Sensors of one NVIDIA GPU, read from the driver's own library (NVML) by ctypes: nothing to install."""

import ctypes

LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED, NO_PERMISSION = 3, 4
"""nvmlReturn_t of nvml.h."""
SAID = {1: "not initialised", 2: "invalid argument", NOT_SUPPORTED: "not supported", NO_PERMISSION: "no permission"}
SM, MEMORY, ON_DIE = 1, 2, 0
"""NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU of nvml.h."""


class Sensors:
    """Readings of one GPU; every reading is None, and `why` says it, where there is no NVML or no permission."""

    def __init__(self, uuid, index=0, library=None):
        """`uuid`: of the GPU, as torch's device properties have it; `index`: where they have none, and no
        CUDA_VISIBLE_DEVICES changes the order."""
        self.handle, self.why = None, ""
        try:
            self.nvml = library or ctypes.CDLL(LIBRARY)
        except OSError as error:
            self.why = f"no NVML: {error}"
            return
        if self._asked("nvmlInit_v2"):
            handle = ctypes.c_void_p()
            if uuid is None:
                found = self._asked("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
            else:
                found = self._asked("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(handle))
            self.handle = handle if found else None

    def _asked(self, name, *arguments):
        """Whether a call went well."""
        try:
            code = getattr(self.nvml, name)(*arguments)
        except AttributeError:
            code = NOT_SUPPORTED
        if code:
            self.why = f"{name}: {SAID.get(code, f'NVML error {code}')}"
        return code == 0

    def _read(self, name, kind, *arguments):
        """The number a call writes to its last argument."""
        if self.handle is None:
            return None
        found = kind()
        return found.value if self._asked(name, self.handle, *arguments, ctypes.byref(found)) else None

    def energy(self):
        """Joules since the driver was loaded."""
        millijoules = self._read("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return None if millijoules is None else millijoules / 1e3

    def state(self):
        """Clocks (Hz), power limit (W), throttle reasons (bit mask), temperature (C)."""
        clock = self._read("nvmlDeviceGetClockInfo", ctypes.c_uint, SM)
        memory = self._read("nvmlDeviceGetClockInfo", ctypes.c_uint, MEMORY)
        limit = self._read("nvmlDeviceGetEnforcedPowerLimit", ctypes.c_uint)
        return {
            "sm_clock_hz": None if clock is None else clock * 1e6,
            "memory_clock_hz": None if memory is None else memory * 1e6,
            "power_limit_w": None if limit is None else limit / 1e3,
            "throttle_reasons": self._read("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong),
            "temperature_c": self._read("nvmlDeviceGetTemperature", ctypes.c_uint, ON_DIE),
            "note": self.why,
        }
