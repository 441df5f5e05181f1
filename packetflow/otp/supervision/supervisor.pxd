# Compiled as it is: its classes have no slots.
