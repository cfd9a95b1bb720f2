// libraries for pictures, windows and models: their public names alone, so that a collision shows where they are not installed.
namespace Avalonia
{
    class Animation; class AppBuilder; class Application; class AttachedProperty; class AvaloniaLocator; class AvaloniaObject; class AvaloniaProperty; class AvaloniaPropertyChangedEventArgs; class AvaloniaPropertyMetadata; class BoxShadow; class ClassBindingManager; class CornerRadius; class DataObject; class DirectProperty; class Effect; class FontFamily; class GridLength; class IDataTemplate; class IStyledElement; class Input; class LogicalTree; class Matrix; class PixelPoint; class PixelRect; class PixelSize;
    class PixelVector; class Point; class Rect; class RelativePoint; class RelativeRect; class RelativeScalar; class RelativeUnit; class RoundedRect; class Size; class StyledElement;
    class StyledProperty; class Thickness; class UnhandledExceptionEventArgs; class Vector;
    class Vector3D; class Visual; class VisualExtensions; class VisualTreeAttachmentEventArgs;
}

namespace SixLabors.ImageSharp
{
    class Color; class ColorMatrix; class Configuration; class DenseMatrix; class Image; class ImageExtensions; class ImageFormatException; class ImageFrame; class ImageFrameCollection;
    class ImageInfo; class ImageProcessingException; class IndexedImageFrame; class InvalidImageContentException; class MemoryAllocator; class Number; class Point; class PointF; class Rational; class Rectangle; class RectangleF; class SignedRational; class Size;
    class SizeF; class UnknownImageFormatException;
}

namespace SixLabors.ImageSharp.Formats
{
    class AlphaAwareImageEncoder; class AnimationDisposalMode; class DecoderOptions; class FormatConnectingMetadata; class IImageDecoder; class IImageEncoder; class IImageFormat;
    class ImageDecoder; class ImageEncoder; class ImageFormatManager; class PixelAlphaRepresentation; class PixelTypeInfo; class QuantizingImageEncoder; class SegmentIntegrityHandling; class SpecializedImageDecoder; class TransparentColorMode;
}

namespace SixLabors.ImageSharp.PixelFormats
{
    class A8; class Abgr32; class Argb32; class Bgr24; class Bgra32; class Byte4; class HalfSingle; class IPixel; class L16; class L8; class La16; class La32; class PixelAlphaCompositionMode; class PixelBlender; class PixelColorBlendingMode; class PixelOperations; class Rg32; class Rgb24; class Rgb48; class Rgba1010102; class Rgba32;
    class Rgba64; class RgbaVector; class Short2; class Short4;
}

namespace SixLabors.ImageSharp.Processing
{
    class AffineTransformBuilder; class AnchorPositionMode; class BinaryThresholdMode; class BokehBlurExtensions; class BrushApplicator; class ColorBlindnessMode; class ColorBrightness;
    class CropExtensions; class DrawImageExtensions; class FlipMode; class GrayscaleMode; class IImageProcessingContext; class KnownDitherings; class KnownEdgeDetectorKernels; class KnownFilterMatrices; class KnownQuantizers; class KnownResamplers; class ProjectiveTransformBuilder; class ResizeExtensions; class ResizeMode; class ResizeOptions;
    class RotateMode; class TaperCorner; class TaperSide; class TransformSpace;
}

namespace SkiaSharp
{
    class SKAlphaType; class SKBitmap; class SKCanvas; class SKCodec; class SKColor; class SKColorSpace; class SKColorType; class SKData; class SKEncodedImageFormat; class SKEncodedOrigin; class SKFilterMode; class SKFilterQuality; class SKImage; class SKImageInfo; class SKMatrix; class SKPaint; class SKPath; class SKPixmap; class SKPoint;
    class SKPointI; class SKRect; class SKRectI; class SKSamplingOptions; class SKShader; class SKSize; class SKSizeI; class SKSurface;
}

namespace ImageMagick
{
    class AlphaOption; class Channels; class ColorSpace; class ColorType; class CompositeOperator; class DitherMethod; class Drawables; class ExifProfile; class FilterType;
    class Gravity; class IMagickImage; class IccProfile; class Interlace; class MagickColor;
    class MagickColors; class MagickFormat; class MagickGeometry; class MagickImage; class MagickImageCollection; class MagickImageInfo; class MagickReadSettings; class NoiseType;
    class Orientation; class Percentage; class PixelChannel; class PixelInterpolateMethod; class PixelMapping; class PixelStorageSettings; class QuantizeSettings; class ResourceLimits;
    class VirtualPixelMethod; class WebPPreset;
}

namespace OpenCvSharp
{
    class BorderTypes; class ColorConversionCodes; class Cv2; class CvType; class HersheyFonts;
    class ImageEncodingParam; class ImreadModes; class ImwriteFlags; class InpaintMethod; class InpaintTypes; class InterpolationFlags; class Mat; class MatType; class Point; class Point2f; class Range; class Rect; class RetrievalModes; class RotateFlags; class Scalar;
    class Size; class Size2f; class ThresholdTypes; class Vec3b; class VideoCapture; class Window; class WindowFlags;
}

namespace Microsoft.ML.OnnxRuntime
{
    class CheckpointState; class DisposableNamedOnnxValue; class ExecutionMode; class FixedBufferOnnxValue; class GraphOptimizationLevel; class IDisposableReadOnlyCollection;
    class InferenceSession; class ModelMetadata; class NamedOnnxValue; class NodeMetadata; class OnnxRuntimeException; class OnnxTypeProto; class OnnxValueType; class OrtAllocator; class OrtAllocatorType; class OrtDeviceType; class OrtEnv; class OrtIoBinding; class OrtLoggingLevel; class OrtMemType; class OrtMemoryInfo; class OrtTypeInfo; class OrtValue;
    class PrePackedWeightsContainer; class RunOptions; class SessionOptions; class TensorElementTypeInfo; class TrainingSession;
}

namespace Microsoft.ML.OnnxRuntime.Tensors
{
    class ArrayTensorExtensions; class BFloat16; class DenseTensor; class FixedDimensionsAttribute; class Float16; class Tensor; class TensorBase; class TensorElementType; class TensorTypeInfo;
}
