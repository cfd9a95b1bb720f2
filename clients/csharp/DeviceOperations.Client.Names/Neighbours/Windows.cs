// WPF: their public names alone, so that a collision shows where they are not installed.
namespace System.Windows
{
    class Application; class AttachedPropertyBrowsableAttribute; class BaselineAlignment; class Clipboard; class ColumnSpaceDistribution; class ComponentCommands; class ContentElement;
    class ContentOperations; class CoreCompatibilityPreferences; class CornerRadius; class CultureInfoIetfLanguageTagConverter; class DataFormat; class DataFormats; class DataObject;
    class DataTemplate; class DeferrableContent; class DependencyObject; class DependencyObjectType; class DependencyProperty; class DependencyPropertyChangedEventArgs;
    class DependencyPropertyKey; class DialogResultConverter; class DragAction; class DragDrop;
    class DragDropEffects; class DragDropKeyStates; class DragEventArgs; class Duration; class DynamicResourceExtension; class EventManager; class EventPrivateKey; class EventRoute; class EventSetter; class EventTrigger; class ExitEventArgs; class Expression; class FigureLength;
    class FigureLengthType; class FlowDirection; class FontCapitals; class FontEastAsianLanguage; class FontEastAsianWidths; class FontFraction; class FontNumeralAlignment; class FontNumeralStyle; class FontSizeConverter; class FontStretch;
    class FontStretches; class FontStyle; class FontStyles; class FontVariants; class FontWeight; class FontWeights; class FrameworkContentElement; class FrameworkElement; class FrameworkElementFactory; class FrameworkPropertyMetadata; class FrameworkPropertyMetadataOptions; class FrameworkTemplate; class Freezable; class FreezableCollection; class GiveFeedbackEventArgs; class GridLength; class GridUnitType;
    class HierarchicalDataTemplate; class HorizontalAlignment; class IDataObject; class IFrameworkInputElement; class IInputElement; class IWeakEventListener; class Int32Rect;
    class LineBreakCondition; class LineStackingStrategy; class LocalValueEntry; class LocalValueEnumerator; class Localization; class LogicalTreeHelper; class LostFocusEventManager; class MediaScriptCommandRoutedEventArgs; class MessageBox; class MessageBoxButton; class MessageBoxImage; class MessageBoxOptions; class MessageBoxResult;
    class ModifiabilityAttribute; class MultiDataTrigger; class MultiTrigger; class NameScope;
    class NullableBoolConverter; class Point; class PowerLineStatus; class PresentationSource;
    class PropertyMetadata; class PropertyPath; class QueryContinueDragEventArgs; class ReasonSessionEnding; class Rect; class RequestBringIntoViewEventArgs; class ResizeMode;
    class ResourceDictionary; class ResourceDictionaryLocation; class ResourceKey; class ResourceReferenceKeyNotFoundException; class RoutedEvent; class RoutedEventArgs; class RoutedEventHandlerInfo; class RoutedPropertyChangedEventArgs; class RoutingStrategy; class SessionEndingCancelEventArgs; class Setter; class SetterBase; class SetterBaseCollection;
    class ShutdownMode; class Size; class SizeChangedEventArgs; class SizeChangedInfo; class SourceChangedEventArgs; class SplashScreen; class StartupEventArgs; class StaticResourceExtension; class Strikethrough; class Style; class StyleTypedPropertyAttribute; class SystemColors; class SystemCommands; class SystemFonts;
    class SystemParameters; class SystemResourceKey; class TemplateBindingExpression; class TemplateBindingExtension; class TemplateContent; class TemplateKey; class TemplatePartAttribute; class TemplateVisualStateAttribute; class TextAlignment; class TextDataFormat; class TextDecoration; class TextDecorationCollection; class TextDecorationLocation; class TextDecorationUnit; class TextDecorations; class TextMarkerStyle; class TextTrimming; class TextWrapping; class ThemeDictionaryExtension;
    class ThemeInfoAttribute; class ThemeMode; class Thickness; class Trigger; class TriggerAction; class TriggerActionCollection; class TriggerBase; class TriggerCollection;
    class UIElement; class UIElement3D; class UIPropertyMetadata; class ValueSource; class Vector; class VerticalAlignment; class VisualState; class VisualStateChangedEventArgs; class VisualStateGroup; class VisualStateManager; class VisualTransition; class WeakEventManager;
    class WindowCollection; class WindowStartupLocation; class WindowState; class WindowStyle;
    class WrapDirection;
}

namespace System.Windows.Controls
{
    class AccessText; class AddingNewItemEventArgs; class AlternationConverter; class BooleanToVisibilityConverter; class Border; class Button; class Calendar; class CalendarDateRange; class CalendarMode; class CalendarSelectionMode; class Canvas; class CharacterCasing; class CheckBox; class CleanUpVirtualizedItemEventArgs; class ClickMode;
    class ColumnDefinition; class ColumnDefinitionCollection; class ComboBox; class ComboBoxItem; class ContentControl; class ContentPresenter; class ContextMenu; class ContextMenuEventArgs; class ContextMenuService; class Control; class ControlTemplate; class CustomPopupPlacement; class DataErrorValidationRule; class DataGrid; class DataGridCell;
    class DataGridCellInfo; class DataGridColumn; class DataGridRow; class DataGridTextColumn;
    class DataTemplateSelector; class DatePicker; class Decorator; class DefinitionBase; class Dock; class DockPanel; class DocumentViewer; class ExceptionValidationRule; class ExpandDirection; class Expander; class FlowDocumentReader; class FlowDocumentScrollViewer;
    class Frame; class Grid; class GridSplitter; class GridView; class GridViewColumn; class GridViewColumnHeader; class GroupBox; class GroupItem; class GroupStyle; class HeaderedContentControl; class HeaderedItemsControl; class Image; class InitializingNewItemEventArgs; class InkCanvas; class InkPresenter; class ItemCollection;
    class ItemContainerGenerator; class ItemsControl; class ItemsPanelTemplate; class ItemsPresenter; class KeyTipService; class Label; class ListBox; class ListBoxItem; class ListView; class ListViewItem; class MediaElement; class MediaState; class Menu; class MenuItem; class MenuScrollingVisibilityConverter; class NotifyDataErrorValidationRule; class Orientation; class OverflowMode; class Page; class PageRange; class PageRangeSelection;
    class Panel; class PanningMode; class PasswordBox; class PrintDialog; class ProgressBar;
    class RadioButton; class ResizeGrip; class RichTextBox; class RowDefinition; class ScrollBarVisibility; class ScrollChangedEventArgs; class ScrollContentPresenter; class ScrollUnit; class ScrollViewer; class SelectedDatesCollection; class SelectionChangedEventArgs; class SelectionMode; class SelectiveScrollingOrientation; class Separator; class Slider; class SoundPlayerAction; class SpellCheck; class SpellingError;
    class SpellingReform; class StackPanel; class StickyNoteControl; class StretchDirection;
    class StyleSelector; class TabControl; class TabItem; class TextBlock; class TextBox; class TextChange; class TextChangedEventArgs; class TextSearch; class ToolBar; class ToolBarTray;
    class ToolTip; class ToolTipEventArgs; class ToolTipService; class TreeView; class TreeViewItem; class UIElementCollection; class UndoAction; class UserControl; class Validation; class ValidationError; class ValidationErrorEventAction; class ValidationErrorEventArgs; class ValidationResult; class ValidationRule; class ValidationStep; class ViewBase; class Viewbox; class Viewport3D; class VirtualizationCacheLength; class VirtualizationMode; class VirtualizingPanel; class VirtualizingStackPanel; class WebBrowser; class WrapPanel;
}

namespace System.Windows.Controls.Primitives
{
    class BulletDecorator; class ButtonBase; class CalendarButton; class CustomPopupPlacementCallback; class DataGridCellsPresenter; class DatePickerTextBox; class DocumentPageView; class DocumentViewerBase; class DragCompletedEventArgs; class DragDeltaEventArgs; class DragStartedEventArgs; class GeneratorDirection; class GeneratorPosition; class GeneratorStatus; class GridViewRowPresenter; class IScrollInfo;
    class ItemsChangedEventArgs; class LayoutInformation; class MenuBase; class MultiSelector;
    class PlacementMode; class Popup; class PopupAnimation; class PopupPrimaryAxis; class RangeBase; class RepeatButton; class ResizeGrip; class ScrollBar; class ScrollEventArgs;
    class ScrollEventType; class SelectiveScrollingGrid; class Selector; class StatusBar; class StatusBarItem; class TabPanel; class TextBoxBase; class Thumb; class TickBar; class TickBarPlacement; class ToggleButton; class ToolBarOverflowPanel; class ToolBarPanel; class Track; class UniformGrid;
}

namespace System.Windows.Data
{
    class Binding; class BindingBase; class BindingExpression; class BindingExpressionBase;
    class BindingGroup; class BindingListCollectionView; class BindingMode; class BindingOperations; class BindingStatus; class CollectionContainer; class CollectionView;
    class CollectionViewGroup; class CollectionViewSource; class CompositeCollection; class DataChangedEventManager; class DataSourceProvider; class DataTransferEventArgs; class FilterEventArgs; class IMultiValueConverter; class IValueConverter; class ListCollectionView; class MultiBinding; class MultiBindingExpression; class ObjectDataProvider; class PriorityBinding; class PriorityBindingExpression; class PropertyGroupDescription; class RelativeSource; class RelativeSourceMode; class UpdateSourceTrigger; class ValueConversionAttribute; class ValueUnavailableException; class XmlDataProvider; class XmlNamespaceMapping;
}

namespace System.Windows.Documents
{
    class Adorner; class AdornerDecorator; class AdornerLayer; class AnchoredBlock; class Block;
    class BlockCollection; class BlockUIContainer; class Bold; class ContentPosition; class DocumentPage; class DocumentPaginator; class DocumentReference; class DocumentStructures;
    class DynamicDocumentPaginator; class EditingCommands; class Figure; class FixedDocument;
    class FixedPage; class Floater; class FlowDocument; class FrameworkTextComposition; class Glyphs; class Hyperlink; class Inline; class InlineCollection; class InlineUIContainer;
    class Italic; class LineBreak; class LinkTarget; class List; class ListItem; class LogicalDirection; class PageContent; class Paragraph; class Run; class Section; class Span;
    class StoryFragment; class Table; class TableCell; class TableColumn; class TableRow; class TableRowGroup; class TextEffectResolver; class TextElement; class TextPointer; class TextRange; class TextSelection; class Typography; class Underline; class ZoomPercentageConverter;
}

namespace System.Windows.Input
{
    class AccessKeyManager; class ApplicationCommands; class CanExecuteRoutedEventArgs; class CaptureMode; class CommandBinding; class CommandBindingCollection; class CommandConverter;
    class CommandManager; class Cursor; class CursorType; class Cursors; class ExecutedRoutedEventArgs; class FocusManager; class FocusNavigationDirection; class ICommandSource; class IManipulator; class ImeConversionModeValues; class InertiaExpansionBehavior; class InputBinding; class InputBindingCollection; class InputDevice; class InputEventArgs; class InputGesture; class InputLanguageManager; class InputManager; class InputMethod; class InputMode; class InputScope; class InputScopeName;
    class InputType; class Key; class KeyBinding; class KeyEventArgs; class KeyGesture; class KeyInterop; class KeyStates; class Keyboard; class KeyboardDevice; class KeyboardEventArgs;
    class KeyboardNavigation; class KeyboardNavigationMode; class Manipulation; class ManipulationDelta; class ManipulationModes; class ManipulationPivot; class MediaCommands;
    class ModifierKeys; class Mouse; class MouseAction; class MouseBinding; class MouseButton;
    class MouseButtonEventArgs; class MouseButtonState; class MouseDevice; class MouseEventArgs;
    class MouseGesture; class MouseWheelEventArgs; class NavigationCommands; class NotifyInputEventArgs; class PreProcessInputEventArgs; class ProcessInputEventArgs; class QueryCursorEventArgs; class RestoreFocusMode; class RoutedCommand; class RoutedUICommand;
    class StagingAreaInputItem; class Stylus; class StylusDevice; class StylusPoint; class Tablet; class TabletDevice; class TextComposition; class Touch; class TouchAction; class TouchDevice; class TouchEventArgs; class TouchFrameEventArgs; class TouchPoint; class TraversalRequest;
}

namespace System.Windows.Media
{
    class AcceleratorKey; class AlignmentX; class AlignmentY; class ArcSegment; class BezierSegment; class BitmapCache; class BitmapCacheBrush; class BitmapScalingMode; class Brush; class BrushMappingMode; class Brushes; class CacheMode; class CachingHint; class CharacterMetrics; class ClearTypeHint; class Color; class ColorContext; class ColorConverter; class ColorInterpolationMode; class Colors; class CombinedGeometry; class CompositionTarget; class ContainerVisual; class DashStyle; class DashStyles; class DisableDpiAwarenessAttribute; class DoubleCollection; class DpiScale; class Drawing; class DrawingBrush; class DrawingCollection; class DrawingContext; class DrawingGroup; class DrawingImage; class DrawingVisual; class EdgeMode; class EllipseGeometry; class FamilyTypeface; class FamilyTypefaceCollection; class FillRule; class FontEmbeddingManager;
    class FontFamily; class Fonts; class FormattedText; class GeneralTransform; class GeneralTransformGroup; class Geometry; class GeometryCombineMode; class GeometryDrawing;
    class GeometryGroup; class GlyphRun; class GlyphRunDrawing; class GlyphTypeface; class GradientBrush; class GradientSpreadMethod; class GradientStop; class GradientStopCollection;
    class GuidelineSet; class HitTestResult; class HostVisual; class ImageBrush; class ImageDrawing; class ImageMetadata; class ImageSource; class Int32Collection; class IntersectionDetail; class LineGeometry; class LineSegment; class LinearGradientBrush; class MaterialCollection; class Matrix; class MatrixTransform; class MediaClock; class MediaPlayer; class MediaTimeline; class NumberCultureSource; class NumberSubstitution; class PathFigure; class PathGeometry; class PathSegment; class Pen; class PenLineCap; class PenLineJoin; class PixelFormat; class PixelFormatChannelMask; class PixelFormats; class PointCollection; class PolyBezierSegment; class PolyLineSegment; class PolyQuadraticBezierSegment; class QuadraticBezierSegment; class RadialGradientBrush; class RectangleGeometry; class RenderCapability; class RenderOptions; class RenderingEventArgs;
    class RotateTransform; class ScaleTransform; class SkewTransform; class SolidColorBrush;
    class StreamGeometry; class StreamGeometryContext; class Stretch; class SweepDirection;
    class TextEffect; class TextFormattingMode; class TextHintingMode; class TextOptions; class TextRenderingMode; class TileBrush; class TileMode; class ToleranceType; class Transform;
    class TransformCollection; class TransformGroup; class TranslateTransform; class Typeface;
    class UnicodeRange; class VectorCollection; class VideoDrawing; class Visual; class VisualBrush; class VisualCollection; class VisualTreeHelper; class XmlLanguage;
}

namespace System.Windows.Media.Imaging
{
    class BitmapCacheOption; class BitmapCodecInfo; class BitmapCreateOptions; class BitmapDecoder; class BitmapEncoder; class BitmapFrame; class BitmapImage; class BitmapMetadata; class BitmapMetadataBlob; class BitmapPalette; class BitmapPalettes; class BitmapSizeOptions; class BitmapSource; class BmpBitmapDecoder; class BmpBitmapEncoder; class CachedBitmap; class ColorConvertedBitmap; class CroppedBitmap; class DownloadProgressEventArgs; class FormatConvertedBitmap; class GifBitmapDecoder; class GifBitmapEncoder; class IconBitmapDecoder; class InPlaceBitmapMetadataWriter; class JpegBitmapDecoder; class JpegBitmapEncoder; class LateBoundBitmapDecoder; class PngBitmapDecoder; class PngBitmapEncoder; class PngInterlaceOption; class RenderTargetBitmap; class Rotation; class TiffBitmapDecoder; class TiffBitmapEncoder; class TiffCompressOption; class TransformedBitmap; class WmpBitmapDecoder; class WmpBitmapEncoder;
    class WriteableBitmap;
}

namespace System.Windows.Media.Animation
{
    class Animatable; class AnimationClock; class AnimationException; class AnimationTimeline;
    class BackEase; class BeginStoryboard; class BooleanAnimationBase; class BounceEase; class CircleEase; class Clock; class ClockController; class ClockGroup; class ClockState; class ColorAnimation; class CubicEase; class DoubleAnimation; class DoubleAnimationUsingKeyFrames;
    class EasingFunctionBase; class EasingMode; class ElasticEase; class ExponentialEase; class FillBehavior; class HandoffBehavior; class KeySpline; class KeyTime; class KeyTimeType;
    class ParallelTimeline; class PathAnimationSource; class PauseStoryboard; class PointAnimation; class PowerEase; class QuadraticEase; class RectAnimation; class RepeatBehavior; class ResumeStoryboard; class SeekStoryboard; class SineEase; class SizeAnimation; class SlipBehavior; class SplineDoubleKeyFrame; class StopStoryboard; class Storyboard; class ThicknessAnimation; class TimeSeekOrigin; class Timeline; class TimelineCollection; class TimelineGroup;
}

namespace System.Windows.Navigation
{
    class FragmentNavigationEventArgs; class IProvideCustomContentState; class JournalEntry;
    class JournalEntryPosition; class JournalOwnership; class NavigatingCancelEventArgs; class NavigationEventArgs; class NavigationFailedEventArgs; class NavigationMode; class NavigationProgressEventArgs; class NavigationService; class NavigationUIVisibility; class NavigationWindow; class PageFunction; class RequestNavigateEventArgs; class ReturnEventArgs;
}

namespace System.Windows.Shapes
{
    class Ellipse; class Line; class Path; class Polygon; class Polyline; class Rectangle; class Shape;
}

namespace System.Windows.Shell
{
    class JumpItem; class JumpList; class JumpPath; class JumpTask; class NonClientFrameEdges;
    class ResizeGripDirection; class TaskbarItemInfo; class TaskbarItemProgressState; class ThumbButtonInfo; class WindowChrome;
}

namespace System.Windows.Threading
{
    class Dispatcher; class DispatcherExtensions; class DispatcherFrame; class DispatcherHookEventArgs; class DispatcherHooks; class DispatcherObject; class DispatcherOperation; class DispatcherOperationStatus; class DispatcherPriority; class DispatcherPriorityAwaitable; class DispatcherProcessingDisabled; class DispatcherSynchronizationContext; class DispatcherTimer; class DispatcherUnhandledExceptionEventArgs; class TaskExtensions;
}

namespace System.Windows.Automation
{
    class AutomationElement; class AutomationHeadingLevel; class AutomationIdentifier; class AutomationLiveSetting; class AutomationNotificationKind; class AutomationPattern; class AutomationProperties; class AutomationProperty; class Condition; class ControlType; class DockPosition; class ExpandCollapseState; class IsOffscreenBehavior; class PropertyCondition;
    class RowOrColumnMajor; class ScrollAmount; class SupportedTextSelection; class ToggleState;
    class TreeScope; class WindowInteractionState; class WindowVisualState;
}

namespace System.Windows
{
    // Members of a window stand before every type of the same name.
    abstract class Window
    {
        protected static int ActualHeight, ActualWidth, AllowDrop, Background, BindingGroup, Clip, CommandBindings;
        protected static int Content, ContextMenu, Cursor, DataContext, DialogResult, Dispatcher, Effect, Focusable;
        protected static int Height, Icon, InputBindings, Language, Left, Margin, Name, Opacity, OwnedWindows, Owner;
        protected static int Padding, Parent, RenderTransform, Resources, Style, Tag, Template, Title, ToolTip, Top;
        protected static int Topmost, Triggers, Uid, Visibility, Width;
    }
}
