// ASP.NET Core: their public names alone, so that a collision shows where they are not installed.
namespace Microsoft.AspNetCore.Builder
{
    class ApplicationBuilder; class CertificateForwardingOptions; class ComponentEndpointConventionBuilder; class ConnectionEndpointRouteBuilder; class ControllerActionEndpointConventionBuilder; class CookieAuthenticationOptions; class CookiePolicyOptions; class DefaultFilesOptions; class DeveloperExceptionPageOptions; class DirectoryBrowserOptions; class EndpointBuilder; class ExceptionHandlerOptions; class FileServerOptions; class ForwardedHeadersOptions; class GrpcEndpointConventionBuilder; class HostFilteringOptions; class HttpMethodOverrideOptions; class HubEndpointConventionBuilder;
    class IApplicationBuilder; class IEndpointConventionBuilder; class IdentityCookiesBuilder;
    class JwtBearerOptions; class PageActionEndpointConventionBuilder; class RateLimiterOptions;
    class RazorComponentsEndpointConventionBuilder; class RequestLocalizationOptions; class RouteHandlerBuilder; class SessionMiddlewareExtensions; class SessionOptions; class SpaOptions; class StaticFileOptions; class StatusCodePagesOptions; class WebApplication;
    class WebApplicationBuilder; class WebApplicationOptions; class WebSocketOptions; class WelcomePageOptions;
}

namespace Microsoft.AspNetCore.Hosting
{
    class EnvironmentName; class HostingAbstractionsWebHostBuilderExtensions; class HostingStartupAttribute; class IHostingEnvironment; class IHostingStartup; class IStartup;
    class IStartupFilter; class IWebHost; class IWebHostBuilder; class IWebHostEnvironment;
    class StartupBase; class StartupFilter; class WebHostBuilder; class WebHostBuilderContext;
    class WebHostDefaults;
}

namespace Microsoft.AspNetCore.Http
{
    class AsParametersAttribute; class BadHttpRequestException; class BufferedBody; class ConnectionInfo; class CookieBuilder; class CookieOptions; class CookieSecurePolicy; class DefaultHttpContext; class Endpoint; class EndpointFilterFactoryContext; class EndpointFilterInvocationContext; class EndpointMetadataCollection; class FormCollection;
    class FormFile; class FormOptions; class FragmentString; class HeaderDictionary; class HostString; class HttpContext; class HttpContextAccessor; class HttpMethods; class HttpProtocol; class HttpRequest; class HttpResponse; class HttpValidationProblemDetails;
    class IBindableFromHttpContext; class IContentTypeHttpResult; class IEndpointFilter; class IFileHttpResult; class IFormCollection; class IFormFile; class IHeaderDictionary; class IHttpContextAccessor; class IMiddleware; class IMiddlewareFactory; class IProblemDetailsService; class IQueryCollection; class IRequestCookieCollection; class IResponseCookies; class IResult; class ISession; class IStatusCodeHttpResult; class IValueHttpResult; class MapMiddleware; class PathString; class ProblemDetails; class ProblemDetailsContext; class ProblemDetailsOptions; class QueryCollection; class QueryString; class RequestDelegate; class RequestTrailerExtensions; class ResponseTrailerExtensions; class Results; class RouteHandlerFilterContext; class SameSiteMode; class SendFileFallback; class SessionExtensions; class StatusCodes; class TypedResults; class UseMiddlewareExtensions; class WebSocketAcceptContext; class WebSocketManager;
}

namespace Microsoft.AspNetCore.Http.Features
{
    class FeatureCollection; class FeatureReference; class FeatureReferences; class FormFeature;
    class FormOptions; class HttpsCompressionMode; class IFeatureCollection; class IFormFeature;
    class IHttpBodyControlFeature; class IHttpConnectionFeature; class IHttpMaxRequestBodySizeFeature; class IHttpRequestFeature; class IHttpResetFeature; class IHttpResponseFeature; class IHttpResponseTrailersFeature; class IHttpUpgradeFeature; class IItemsFeature; class IQueryFeature; class IServiceProvidersFeature; class ISessionFeature;
    class ITlsConnectionFeature; class ITrackingConsentFeature;
}

namespace Microsoft.AspNetCore.Http.HttpResults
{
    class Accepted; class AcceptedAtRoute; class BadRequest; class ChallengeHttpResult; class Conflict; class ContentHttpResult; class Created; class CreatedAtRoute; class EmptyHttpResult; class FileContentHttpResult; class FileStreamHttpResult; class ForbidHttpResult; class InternalServerError; class JsonHttpResult; class NoContent; class NotFound; class Ok; class PhysicalFileHttpResult; class ProblemHttpResult; class PushStreamHttpResult; class RazorComponentResult; class RedirectHttpResult; class RedirectToRouteHttpResult; class ServerSentEventsResult; class SignInHttpResult; class SignOutHttpResult; class StatusCodeHttpResult; class UnauthorizedHttpResult; class UnprocessableEntity; class Utf8ContentHttpResult; class ValidationProblem; class VirtualFileHttpResult;
}

namespace Microsoft.AspNetCore.Mvc
{
    class AcceptVerbsAttribute; class AcceptedAtActionResult; class AcceptedResult; class ActionContext; class ActionNameAttribute; class ActionResult; class AntiforgeryValidationFailedResult; class ApiBehaviorOptions; class ApiControllerAttribute;
    class ApiConventionMethodAttribute; class ApiConventionTypeAttribute; class AreaAttribute;
    class AutoValidateAntiforgeryTokenAttribute; class BadRequestObjectResult; class BadRequestResult; class BindAttribute; class BindPropertiesAttribute; class BindPropertyAttribute; class CacheProfile; class ChallengeResult; class ConflictObjectResult; class ConflictResult; class ConsumesAttribute; class ContentResult;
    class ControllerAttribute; class ControllerContext; class CreatedAtActionResult; class CreatedAtRouteResult; class CreatedResult; class DisableRequestSizeLimitAttribute; class EmptyResult; class FileContentResult; class FileResult; class FileStreamResult; class ForbidResult; class FormatFilterAttribute; class FromBodyAttribute; class FromFormAttribute;
    class FromHeaderAttribute; class FromQueryAttribute; class FromRouteAttribute; class FromServicesAttribute; class HiddenInputAttribute; class HttpDeleteAttribute; class HttpGetAttribute; class HttpPatchAttribute; class HttpPostAttribute; class HttpPutAttribute;
    class IActionResult; class IUrlHelper; class IgnoreAntiforgeryTokenAttribute; class JsonOptions; class JsonResult; class LocalRedirectResult; class MiddlewareFilterAttribute;
    class ModelBinderAttribute; class ModelMetadataTypeAttribute; class MvcOptions; class NoContentResult; class NonActionAttribute; class NonControllerAttribute; class NonViewComponentAttribute; class NotFoundObjectResult; class NotFoundResult; class ObjectResult; class OkObjectResult; class OkResult; class PageRemoteAttribute; class PartialViewResult; class PhysicalFileResult; class ProblemDetails; class ProducesAttribute;
    class ProducesDefaultResponseTypeAttribute; class ProducesErrorResponseTypeAttribute; class ProducesResponseTypeAttribute; class RedirectResult; class RedirectToActionResult; class RedirectToPageResult; class RedirectToRouteResult; class RemoteAttribute; class RemoteAttributeBase; class RequestFormLimitsAttribute; class RequestSizeLimitAttribute;
    class RequireHttpsAttribute; class ResponseCacheAttribute; class ResponseCacheLocation;
    class RouteAttribute; class SerializableError; class ServiceFilterAttribute; class SignInResult; class SignOutResult; class SkipStatusCodePagesAttribute; class StatusCodeResult; class TempDataAttribute; class TypeFilterAttribute; class UnauthorizedObjectResult; class UnauthorizedResult; class UnprocessableEntityResult; class UnsupportedMediaTypeResult; class ValidateAntiForgeryTokenAttribute; class ValidationProblemDetails; class ViewComponent; class ViewComponentResult; class ViewDataAttribute; class ViewResult; class VirtualFileResult;
}

namespace Microsoft.AspNetCore.Mvc.Filters
{
    class ActionExecutedContext; class ActionExecutingContext; class ActionFilterAttribute;
    class AuthorizationFilterContext; class ExceptionContext; class ExceptionFilterAttribute;
    class FilterCollection; class FilterContext; class FilterDescriptor; class FilterItem; class FilterScope; class IActionFilter; class IAsyncActionFilter; class IAsyncAuthorizationFilter;
    class IAsyncExceptionFilter; class IAsyncResourceFilter; class IAsyncResultFilter; class IAuthorizationFilter; class IExceptionFilter; class IFilterFactory; class IFilterMetadata;
    class IOrderedFilter; class IResourceFilter; class IResultFilter; class PageHandlerExecutedContext; class ResourceExecutedContext; class ResourceExecutingContext;
    class ResultExecutedContext; class ResultExecutingContext; class ResultFilterAttribute;
}

namespace Microsoft.AspNetCore.Mvc.ModelBinding
{
    class BindNeverAttribute; class BindRequiredAttribute; class BindingBehavior; class BindingInfo; class BindingSource; class BindingSourceValueProvider; class CompositeValueProvider; class DefaultBindingContext; class EnumGroupAndName; class FormValueProvider; class IModelBinder; class IModelBinderProvider; class IValueProvider;
    class JQueryValueProvider; class ModelBinderFactory; class ModelBindingContext; class ModelBindingResult; class ModelError; class ModelErrorCollection; class ModelExplorer; class ModelMetadata; class ModelMetadataProvider; class ModelPropertyCollection; class ModelStateDictionary; class ModelStateEntry; class ModelValidationState; class PrefixContainer; class TooManyModelErrorsException; class ValueProviderException; class ValueProviderFactoryContext; class ValueProviderResult;
}

namespace Microsoft.AspNetCore.Mvc.Rendering
{
    class CheckBoxMode; class FormMethod; class Html5DateRenderingMode; class HtmlHelper; class IHtmlHelper; class MultiSelectList; class MvcForm; class PartialTagHelper; class SelectList;
    class SelectListGroup; class SelectListItem; class TagBuilder; class TagRenderMode; class ValidationSummary; class ViewContext;
}

namespace Microsoft.AspNetCore.Mvc.RazorPages
{
    class CompiledPageActionDescriptor; class Page; class PageActionDescriptor; class PageBase;
    class PageContext; class PageModel; class PageResult; class RazorPagesOptions;
}

namespace Microsoft.AspNetCore.Routing
{
    class CompositeEndpointDataSource; class DefaultEndpointDataSource; class EndpointDataSource; class EndpointGroupNameAttribute; class EndpointNameAttribute; class HostAttribute; class HttpMethodMetadata; class IEndpointRouteBuilder; class IRouteBuilder;
    class IRouteConstraint; class IRouter; class LinkGenerator; class LinkOptions; class LinkParser; class MapGroupOptions; class Route; class RouteBase; class RouteBuilder; class RouteCollection; class RouteContext; class RouteData; class RouteEndpoint; class RouteEndpointBuilder; class RouteGroupBuilder; class RouteHandler; class RouteHandlerOptions; class RouteNameMetadata; class RouteOptions; class RouteValueDictionary; class RouteValuesAddress; class VirtualPathContext; class VirtualPathData;
}

namespace Microsoft.AspNetCore.Authentication
{
    class AuthenticateResult; class AuthenticationBuilder; class AuthenticationFailureException;
    class AuthenticationFeatures; class AuthenticationHandler; class AuthenticationOptions;
    class AuthenticationProperties; class AuthenticationScheme; class AuthenticationSchemeBuilder; class AuthenticationSchemeOptions; class AuthenticationService;
    class AuthenticationTicket; class AuthenticationToken; class ClaimActionCollection; class HandleRequestResult; class IAuthenticationHandler; class IAuthenticationService; class IClaimsTransformation; class ISystemClock; class PropertiesDataFormat; class RemoteAuthenticationOptions; class RemoteFailureContext; class SecureDataFormat; class SystemClock; class TicketDataFormat; class TicketReceivedContext; class TicketSerializer;
}

namespace Microsoft.AspNetCore.Authorization
{
    class AllowAnonymousAttribute; class AuthorizationBuilder; class AuthorizationFailure; class AuthorizationFailureReason; class AuthorizationHandler; class AuthorizationHandlerContext;
    class AuthorizationOptions; class AuthorizationPolicy; class AuthorizationPolicyBuilder;
    class AuthorizationResult; class AuthorizeAttribute; class DefaultAuthorizationService;
    class IAuthorizationHandler; class IAuthorizationPolicyProvider; class IAuthorizationRequirement; class IAuthorizationService; class IAuthorizeData;
}

namespace Microsoft.AspNetCore.Components
{
    class BindElementAttribute; class CascadingParameterAttribute; class CascadingTypeParameterAttribute; class CascadingValue; class ComponentBase; class Dispatcher; class DispatcherExceptionHandler; class DynamicComponent; class EditorRequiredAttribute; class ElementReference; class ErrorBoundaryBase; class EventCallback; class EventCallbackFactory; class EventHandlerAttribute; class EventHandlers;
    class IComponent; class IHandleEvent; class ImportMap; class InjectAttribute; class LayoutAttribute; class LayoutComponentBase; class LayoutView; class LocationChangeException;
    class MarkupString; class NavigationException; class NavigationManager; class NavigationOptions; class OwningComponentBase; class ParameterAttribute; class ParameterValue; class ParameterView; class PersistentComponentState; class PersistentStateAttribute; class RenderFragment; class RenderHandle; class ResourceAsset;
    class RouteAttribute; class RouteData; class RouteView; class StreamRenderingAttribute;
    class SupplyParameterFromFormAttribute; class SupplyParameterFromQueryAttribute;
}

namespace Microsoft.AspNetCore.Components.Forms
{
    class AntiforgeryToken; class BrowserFileExtensions; class DataAnnotationsValidator; class EditContext; class EditForm; class FieldChangedEventArgs; class FieldCssClassProvider; class FieldIdentifier; class FormMappingContext; class FormMappingScope; class IBrowserFile; class InputBase; class InputCheckbox; class InputDate; class InputDateType; class InputFile; class InputFileChangeEventArgs; class InputNumber; class InputRadio; class InputRadioGroup; class InputSelect; class InputText; class InputTextArea; class RemoteBrowserFileStreamOptions;
    class ValidationMessage; class ValidationMessageStore; class ValidationRequestedEventArgs;
    class ValidationStateChangedEventArgs; class ValidationSummary;
}

namespace Microsoft.AspNetCore.SignalR
{
    class ClientProxyExtensions; class DynamicHub; class Hub; class HubCallerContext; class HubConnectionContext; class HubConnectionStore; class HubException; class HubInvocationContext; class HubLifetimeManager; class HubMetadata; class HubMethodNameAttribute; class HubOptions; class IClientProxy; class IGroupManager; class IHubCallerClients; class IHubClients; class IHubContext; class IHubFilter; class ISignalRServerBuilder; class ISingleClientProxy; class IUserIdProvider;
}

namespace Microsoft.AspNetCore.Server.Kestrel.Core
{
    class AnyIPListenOptions; class BadHttpRequestException; class Http2Limits; class Http3Limits; class HttpProtocols; class HttpVersionPolicy; class ITlsHandshake; class KestrelServer; class KestrelServerLimits; class KestrelServerOptions; class ListenOptions;
    class LocalhostListenOptions; class MinDataRate;
}

namespace Microsoft.AspNetCore.RateLimiting
{
    class DisableRateLimitingAttribute; class EnableRateLimitingAttribute; class IRateLimiterPolicy; class OnRejectedContext; class RateLimiterOptions;
}

namespace Microsoft.AspNetCore.OutputCaching
{
    class CacheVaryByRules; class IOutputCacheFeature; class IOutputCachePolicy; class IOutputCacheStore; class OutputCacheAttribute; class OutputCacheContext; class OutputCacheOptions; class OutputCachePolicyBuilder;
}

namespace Microsoft.AspNetCore.Session
{
    class DistributedSession; class DistributedSessionStore; class ISessionStore; class SessionDefaults; class SessionFeature; class SessionMiddleware;
}

namespace Microsoft.AspNetCore.Diagnostics
{
    class CompilationFailure; class DeveloperExceptionPageMiddleware; class DiagnosticMessage;
    class ErrorContext; class ExceptionHandlerFeature; class ExceptionHandlerSuppressDiagnosticsContext; class IExceptionHandler; class IExceptionHandlerFeature; class IExceptionHandlerPathFeature; class IStatusCodePagesFeature;
    class IStatusCodeReExecuteFeature; class StatusCodeContext; class StatusCodePagesFeature;
    class WelcomePageMiddleware;
}

namespace Microsoft.AspNetCore.DataProtection
{
    class DataProtectionBuilderExtensions; class DataProtectionOptions; class EphemeralDataProtectionProvider; class IDataProtectionBuilder; class IDataProtectionProvider; class IDataProtector; class IPersistedDataProtector; class ISecret;
    class ITimeLimitedDataProtector; class Secret;
}

namespace Microsoft.AspNetCore.Mvc
{
    // Members of a controller stand before every type of the same name.
    abstract class ControllerBase
    {
        protected static int ControllerContext, HttpContext, MetadataProvider, ModelBinderFactory, ModelState;
        protected static int ObjectValidator, ProblemDetailsFactory, Request, Response, RouteData, Url, User;

        protected static int Accepted() => 0;
        protected static int BadRequest() => 0;
        protected static int Challenge() => 0;
        protected static int Conflict() => 0;
        protected static int Content() => 0;
        protected static int Created() => 0;
        protected static int Empty() => 0;
        protected static int File() => 0;
        protected static int Forbid() => 0;
        protected static int NotFound() => 0;
        protected static int Ok() => 0;
        protected static int Problem() => 0;
        protected static int Redirect() => 0;
        protected static int StatusCode() => 0;
        protected static int Unauthorized() => 0;
    }

    abstract class Controller : ControllerBase
    {
        protected static int TempData, ViewBag, ViewData;

        protected static int Json() => 0;
        protected static int PartialView() => 0;
        protected static int View() => 0;
    }
}
