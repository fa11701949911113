// Runs a network on readings and prints its answer. Write the model as an array: `xxd -i model.off` and `alignas(16)`. Not run by us.
#include <offshoot.h>

#include "model.h" // alignas(16) const unsigned char model_off[] = {…}; const unsigned model_off_len = …;

static offshoot network;
alignas(OFFSHOOT_ALIGNMENT) static uint8_t arena[8192]; // `offshoot compile` prints the size
static float readings[384];

static bool good(offshoot_status status)
{
    if (status != OFFSHOOT_STATUS_OK)
        Serial.println(offshoot_message(status));
    return status == OFFSHOOT_STATUS_OK;
}

void setup()
{
    Serial.begin(115200);
    good(offshoot_open(&network, model_off, model_off_len, arena, sizeof arena));
}

void loop()
{
    // Fill readings from the sensor here.
    uint32_t state;
    if (good(offshoot_write_input_f32(&network, 0, readings, 384)) && good(offshoot_run(&network))
        && good(offshoot_top1(&network, 0, &state)))
        Serial.println(state);
    delay(1000);
}
