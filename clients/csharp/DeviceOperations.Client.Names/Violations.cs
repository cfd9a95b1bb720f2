using DeviceOperations.Rpc;

namespace DeviceOperations.Services.Inference;

// Google's types have a namespace of their own, for programs that name them.
internal static class Violations
{
    internal static BadRequest.Types.FieldViolation First(ValidateGenerationResponse answer) =>
        answer.Violations[0];

    internal static bool IsAboutPrompt(ServerError error) =>
        error.Violations.Any(violation => violation.Field == "settings.prompt");
}
