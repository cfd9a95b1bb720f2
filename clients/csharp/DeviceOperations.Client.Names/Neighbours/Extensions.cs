// Microsoft.Extensions, Polly and gRPC's own: their public names alone, so that a collision shows where they are not installed.
namespace Microsoft.Extensions.Caching.Distributed
{
    class CacheEntryExtensions; class DistributedCacheEntryOptions; class IBufferDistributedCache; class IDistributedCache; class MemoryDistributedCache;
}

namespace Microsoft.Extensions.Caching.Hybrid
{
    class HybridCache; class HybridCacheEntryFlags; class HybridCacheEntryOptions; class HybridCacheOptions; class IHybridCacheBuilder; class IHybridCacheSerializer;
}

namespace Microsoft.Extensions.Caching.Memory
{
    class CacheExtensions; class CacheItemPriority; class EvictionReason; class ICacheEntry;
    class IMemoryCache; class MemoryCache; class MemoryCacheEntryExtensions; class MemoryCacheEntryOptions; class MemoryCacheOptions; class MemoryCacheStatistics; class MemoryDistributedCacheOptions; class PostEvictionCallbackRegistration; class PostEvictionDelegate;
}

namespace Microsoft.Extensions.Configuration
{
    class BinderOptions; class ChainedConfigurationSource; class ConfigurationBuilder; class ConfigurationKeyComparer; class ConfigurationKeyNameAttribute; class ConfigurationManager;
    class ConfigurationPath; class ConfigurationProvider; class ConfigurationReloadToken; class ConfigurationRoot; class ConfigurationSection; class FileConfigurationProvider; class FileConfigurationSource; class FileLoadExceptionContext; class IConfiguration; class IConfigurationBuilder; class IConfigurationManager; class IConfigurationProvider; class IConfigurationRoot; class IConfigurationSection; class IConfigurationSource; class StreamConfigurationProvider; class StreamConfigurationSource;
}

namespace Microsoft.Extensions.Diagnostics.HealthChecks
{
    class DelegateHealthCheck; class HealthCheckContext; class HealthCheckOptions; class HealthCheckPublisherOptions; class HealthCheckRegistration; class HealthCheckResult; class HealthCheckService; class HealthCheckServiceOptions; class HealthReport; class HealthReportEntry; class HealthStatus; class IHealthCheck; class IHealthCheckPublisher;
}

namespace Microsoft.Extensions.Diagnostics.Metrics
{
    class IMetricsBuilder; class IMetricsListener; class InstrumentRule; class MeasurementHandlers; class MeterScope; class MetricsOptions;
}

namespace Microsoft.Extensions.Diagnostics.ResourceMonitoring
{
    class IResourceMonitor; class IResourceUtilizationPublisher; class ResourceMonitoringOptions; class ResourceUtilization; class Snapshot; class SystemResources;
}

namespace Microsoft.Extensions.FileProviders
{
    class CompositeFileProvider; class EmbeddedFileProvider; class IDirectoryContents; class IFileInfo; class IFileProvider; class NotFoundDirectoryContents; class NotFoundFileInfo;
    class NullChangeToken; class NullFileProvider; class PhysicalFileProvider;
}

namespace Microsoft.Extensions.Hosting
{
    class BackgroundService; class BackgroundServiceExceptionBehavior; class ConsoleLifetimeOptions; class Environments; class Host; class HostAbortedException; class HostApplicationBuilder; class HostApplicationBuilderSettings; class HostBuilder; class HostBuilderContext; class HostDefaults; class HostOptions; class IHost; class IHostApplicationBuilder; class IHostApplicationLifetime; class IHostBuilder; class IHostEnvironment; class IHostLifetime; class IHostedLifecycleService; class IHostedService;
}

namespace Microsoft.Extensions.Http
{
    class HttpClientFactoryOptions; class HttpMessageHandlerBuilder; class IHttpMessageHandlerBuilderFilter; class ITypedHttpClientFactory;
}

namespace Microsoft.Extensions.Http.Resilience
{
    class HttpCircuitBreakerStrategyOptions; class HttpHedgingStrategyOptions; class HttpRateLimiterStrategyOptions; class HttpRetryStrategyOptions; class HttpStandardResilienceOptions; class HttpTimeoutStrategyOptions;
}

namespace Microsoft.Extensions.Logging
{
    class ActivityTrackingOptions; class EventId; class FilterLoggingBuilderExtensions; class ILogger; class ILoggerFactory; class ILoggerProvider; class ILoggingBuilder; class ISupportExternalScope; class LogDefineOptions; class LogEntry; class LogLevel; class Logger;
    class LoggerExtensions; class LoggerExternalScopeProvider; class LoggerFactory; class LoggerFactoryOptions; class LoggerFilterOptions; class LoggerFilterRule; class LoggerMessage; class LoggerMessageAttribute; class ProviderAliasAttribute;
}

namespace Microsoft.Extensions.DependencyInjection
{
    class ActivatorUtilities; class ActivatorUtilitiesConstructorAttribute; class AsyncServiceScope; class FromKeyedServicesAttribute; class IHttpClientBuilder; class IKeyedServiceProvider; class IMvcBuilder; class IMvcCoreBuilder; class IServiceCollection;
    class IServiceProviderFactory; class IServiceProviderIsService; class IServiceScope; class IServiceScopeFactory; class KeyedService; class ObjectFactory; class ServiceCollection;
    class ServiceDescriptor; class ServiceKeyAttribute; class ServiceLifetime; class ServiceProvider; class ServiceProviderOptions; class SocketsHttpHandlerBuilder;
}

namespace Microsoft.Extensions.Options
{
    class ConfigureNamedOptions; class ConfigureOptions; class DataAnnotationValidateOptions;
    class IConfigureNamedOptions; class IConfigureOptions; class IOptions; class IOptionsMonitor; class IOptionsSnapshot; class IPostConfigureOptions; class IStartupValidator; class IValidateOptions; class NamedConfigureFromConfigurationOptions;
    class Options; class OptionsBuilder; class OptionsCache; class OptionsFactory; class OptionsManager; class OptionsMonitor; class OptionsValidationException; class OptionsValidatorAttribute; class OptionsWrapper; class PostConfigureOptions; class ValidateEnumeratedItemsAttribute; class ValidateObjectMembersAttribute; class ValidateOptions; class ValidateOptionsResult; class ValidateOptionsResultBuilder;
}

namespace Microsoft.Extensions.Primitives
{
    class CancellationChangeToken; class ChangeToken; class CompositeChangeToken; class IChangeToken; class InplaceStringBuilder; class StringSegment; class StringSegmentComparer;
    class StringTokenizer; class StringValues;
}

namespace Microsoft.Extensions.AI
{
    class AIAnnotation; class AIContent; class AIFunction; class AIFunctionFactory; class AITool; class ChatClientBuilder; class ChatClientMetadata; class ChatFinishReason; class ChatMessage; class ChatOptions; class ChatResponse; class ChatResponseFormat; class ChatResponseUpdate; class ChatRole; class ChatToolMode; class DataContent; class DelegatingChatClient; class Embedding; class EmbeddingGenerationOptions; class ErrorContent;
    class FunctionCallContent; class FunctionResultContent; class GeneratedEmbeddings; class HostedFileContent; class IChatClient; class IEmbeddingGenerator; class IImageGenerator;
    class ImageGenerationOptions; class ImageGenerationRequest; class ImageGenerationResponse;
    class ImageGeneratorMetadata; class SpeechToTextOptions; class TextContent; class TextReasoningContent; class UriContent; class UsageContent; class UsageDetails;
}

namespace Polly
{
    class CircuitBreakerStrategyOptions; class Context; class DelayBackoffType; class HedgingStrategyOptions; class IAsyncPolicy; class ISyncPolicy; class IsPolicy; class Outcome; class Policy; class PolicyBase; class PolicyBuilder; class PolicyResult; class PolicyWrap; class PredicateBuilder; class ResilienceContext; class ResilienceContextPool;
    class ResiliencePipeline; class ResiliencePipelineBuilder; class ResilienceProperties; class ResiliencePropertyKey; class RetryStrategyOptions; class TimeoutStrategyOptions;
}

namespace Grpc.Net.Client.Configuration
{
    class ConfigObject; class HedgingPolicy; class LoadBalancingConfig; class MethodConfig;
    class MethodName; class PickFirstConfig; class RetryPolicy; class RetryThrottlingPolicy;
    class RoundRobinConfig; class ServiceConfig;
}

namespace Grpc.Net.Client.Balancer
{
    class BalancerAddress; class BalancerAttributes; class ChannelState; class Completion; class ConnectivityState; class DnsResolverFactory; class IBackoffPolicy; class LoadBalancer; class LoadBalancerFactory; class LoadBalancerOptions; class PickContext; class PickResult; class PickResultType; class PollingResolver; class Resolver; class ResolverFactory; class ResolverOptions; class ResolverResult; class StaticResolverFactory; class Subchannel; class SubchannelOptions; class SubchannelPicker; class SubchannelState; class SubchannelsLoadBalancer;
}

namespace Grpc.Net.ClientFactory
{
    class CallOptionsContext; class GrpcClientFactory; class GrpcClientFactoryOptions; class InterceptorRegistration; class InterceptorScope;
}

namespace Grpc.AspNetCore.Server
{
    class GrpcMethodMetadata; class GrpcServiceOptions; class IGrpcServerBuilder; class InterceptorCollection; class InterceptorRegistration;
}
